"""Import paths that programs of users rely on: they outlive the moves of the modules behind them."""

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "clrernetlm": "CLRerNet Config Lane Predictor UserError Viewport init_detector load_config __version__",
    "clrernetlm.models.losses": "KorniaFocalLoss LaneIoULoss CLRNetIoULoss CLRNetSegLoss",
    "clrernetlm.models.assign": "DynamicTopkAssigner LaneIoUCost CLRNetIoUCost FocalCost DistanceCost",
    "clrernetlm.models.criterion": "CLRerNetCriterion build_assigner",
    "clrernetlm.models.decode": "decode_lanes lane_nms lanes_from_predictions prediction_points CULANE_CROP",
    "clrernetlm.models.clrernet": "CLRerNet",
    "clrernetlm.models.lanelm": (
        "KeypointEmbedding LaneLMDecoder LaneLMDecoderLayer LaneLMHead LaneLMModel LaneTokenizer LaneTokenizerConfig "
        "lane_lm_loss"
    ),
    "clrernetlm.data": (
        "Alaug Compose CropResize CulaneDataset PackCLRNetInputs PackLaneLMInputs build_dataset check_data collate"
    ),
    "clrernetlm.datasets": (
        "Alaug Compose CropResize CulaneDataset PackCLRNetInputs PackLaneLMInputs build_dataset check_data collate"
    ),
    "clrernetlm.evaluation": "EvaluationResult evaluate lane_ious match_lanes",
    "clrernetlm.metrics": "EvaluationResult evaluate lane_ious match_lanes",
}


@pytest.mark.parametrize("module", NAMES)
def test_public_names_stay_where_they_are(module: str) -> None:
    imported = importlib.import_module(module)
    for name in NAMES[module].split():
        assert getattr(imported, name) is not None
        assert name in dir(imported)


def test_both_names_of_a_package_give_the_same_objects() -> None:
    from clrernetlm import data, datasets, evaluation, metrics

    assert all(getattr(data, name) is getattr(datasets, name) for name in NAMES["clrernetlm.data"].split())
    assert evaluation.lane_ious is metrics.lane_ious


def test_the_package_loads_nothing_heavy_before_it_is_used() -> None:
    code = "import sys, clrernetlm; print([m for m in ('torch', 'cv2', 'numba', 'lightning') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'clrernetlm' has no attribute 'Predicter'"):
        importlib.import_module("clrernetlm").Predicter  # noqa: B018
