"""Settings of all tests: the files with slow tests, which run first, and the golden results of the metric."""

from __future__ import annotations

import json
import signal
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.golden_weights import GOLDEN

# Files, folders of files or single tests that train, export or start processes. `make quick` leaves them out. They run
# first, in this order, which is roughly that of their time: while the last file runs, the other process of the test run
# is idle.
SLOW = (
    "tests/deploy/export/test_exporter.py",
    "tests/deploy/runtimes/test_backends.py",
    "tests/deploy/export/test_export_lanelm.py",
    "tests/deploy/export/test_export_fovea.py",
    "tests/deploy/export/test_quantisation.py::test_a_quantised_detector_is_smaller_and_finds_nearly_the_same",
    "tests/deploy/runtimes/test_graph_limits.py",
    "tests/training/test_train.py",
    "tests/training/test_resume.py",
    "tests/fuzz/",
    "tests/training/test_lanelm_module.py",
    "tests/training/test_feature_cache.py",
    "tests/training/test_callbacks.py",
    "tests/distributed/test_process_group.py",
    "tests/distributed/test_batch_norm.py",
    "tests/distributed/test_reduce.py::test_two_processes_have_the_losses_and_gradients_of_one",
    "tests/benchmarks/test_kills.py",
    "tests/inference/test_detect_images.py",
    "tests/inference/test_detect_video.py",
    "tests/inference/test_predictor_sharing.py",
    "tests/evaluation/test_score_lanelm.py",
    "tests/synth/test_dataset.py",
    "tests/cli/test_main.py",
    "tests/cli/test_wheel.py",
    "tests/test_gpu.py",
    "tests/inference/test_predictor.py",
    "tests/evaluation/test_mixed_sizes.py",
    "tests/models/lanelm/test_overfit.py",
    "tests/examples/test_onnx_lanes.py::test_user_errors_of_the_example_are_one_line",
    "tests/models/clrernet/test_criterion.py::test_gradients_of_the_network_are_the_published_ones",
    "tests/models/clrernet/test_detector.py::test_a_batch_gives_what_its_images_give_alone",
    "tests/models/clrernet/test_detector.py::test_every_backbone_makes_a_detector_that_trains",
    "tests/models/clrernet/test_detector.py::test_mismatched_weights_are_refused_with_the_reason_and_change_nothing",
    "tests/models/clrernet/test_detector.py::test_prefixes_of_training_engines_are_removed",
    "tests/models/lanelm/test_detector.py",
    "tests/models/test_fusing.py",
    "tests/models/test_onednn.py",
    "tests/synth/test_domain_randomizer.py",
    "tests/weights/test_checkpoint.py",
    "tests/weights/test_pack.py",
    "tests/datasets/test_culane.py::test_a_list_of_culanes_length_is_read_fast",
    "tests/datasets/test_culane.py::test_data_sets_can_be_pickled_to_spawned_workers",
    "tests/cli/test_exit_codes.py",
    "tests/cli/test_train.py",
    "tests/cli/test_warnings.py",
    "tests/core/test_worker_pool.py",
    "tests/tools/",
)


def pytest_configure() -> None:
    """React to Ctrl-C and a hang-up as in a terminal, also where `nohup` or a script's `&` set them to be ignored.

    The processes that tests start inherit what this process ignores.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def slow_position(item: pytest.Item) -> int:
    """Return the index in `SLOW` of the first entry that names a test; `len(SLOW)`: none does."""
    return next((number for number, start in enumerate(SLOW) if item.nodeid.startswith(start)), len(SLOW))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave slow files unread where `make quick` would deselect all their tests: their imports take seconds."""
    if config.option.markexpr != "not slow" or not collection_path.is_relative_to(config.rootpath):
        return None
    name = collection_path.relative_to(config.rootpath).as_posix() + "/" * collection_path.is_dir()
    return True if name.startswith(SLOW) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of slow files, and run them first."""
    for item in items:
        if slow_position(item) < len(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=slow_position)  # stable


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpack the golden labels, predictions and lists; returns a folder with gt/ and pred/."""
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN / "g_tree.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "g_tree"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Read the results of both published tools for the golden tree."""
    return json.loads((GOLDEN / "g_metric.json").read_text())
