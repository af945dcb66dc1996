import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from clrernetlm.config import BackboneConfig, ClrernetConfig, HeadConfig
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.backbones.registry import BACKBONES
from clrernetlm.models.clrernet.detector import CLRerNet
from tests.helpers.golden_weights import GOLDEN, golden_image, golden_state

STAGE_TOLERANCE = (1e-5, 1e-5, 1e-4)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "b_forward_loss.npz")


@pytest.fixture(scope="module")
def state():
    return golden_state(CLRerNet(ClrernetConfig()).official_state_dict())


def filled(state) -> CLRerNet:
    model = CLRerNet(ClrernetConfig())
    model.load_official_state_dict(state)
    return model


def small_config(**changes) -> ClrernetConfig:
    viewport = Viewport(width=160, height=96)
    return ClrernetConfig(backbone=BackboneConfig("dla46_c"), viewport=viewport, **changes)


def test_seeded_weights_are_those_of_the_golden_cases(golden, state):
    for key, total, magnitude in zip(
        golden["fill_check_keys"], golden["fill_check_sum"], golden["fill_check_abs"], strict=True
    ):
        assert state[key].double().sum().item() == pytest.approx(total, rel=1e-6, abs=1e-5), key
        assert state[key].double().abs().sum().item() == pytest.approx(magnitude, rel=1e-6, abs=1e-5), key


@pytest.mark.parametrize(("case", "seed", "batch"), [("b1", 1, 1), ("b2", 2, 2)])
def test_features_and_stages_are_the_published_ones(golden, state, case, seed, batch):
    model = filled(state).eval()
    with torch.no_grad():
        levels = model.backbone(golden_image(seed, batch))
        features = model.neck(levels)
        stages = model.bbox_head(features)
        maps = {f"backbone{i}": level for i, level in enumerate(levels)}
        maps |= {f"fpn{i}": level for i, level in enumerate(features)} | {"seg": model.segment(features)}
    for name, value in maps.items():
        assert value.shape == tuple(golden[f"{case}_{name}_shape"])
        sampled = value.flatten()[golden[f"{case}_{name}_idx"]]
        np.testing.assert_allclose(sampled, golden[f"{case}_{name}_val"], atol=1e-5, err_msg=name)
        statistics = [value.mean(), value.std(correction=0), value.abs().max()]
        np.testing.assert_allclose(statistics, golden[f"{case}_{name}_stat"], atol=1e-5, err_msg=name)
    for number, (stage, tolerance) in enumerate(zip(stages, STAGE_TOLERANCE, strict=True)):
        assert set(stage) == {"cls_logits", "anchor_params", "lengths", "xs"}
        for name, value in stage.items():
            expected = golden[f"{case}_stage{number}_{name}"]
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance, err_msg=f"{number} {name}")


def test_training_mode_and_running_statistics_are_the_published_ones(golden, state):
    model = filled(state).train()
    for layer in model.modules():
        if isinstance(layer, nn.Dropout | nn.Dropout2d):
            layer.p = 0.0
    stages = model(golden_image(2, 2))
    for number, stage in enumerate(stages):
        for name, value in stage.items():
            expected = golden[f"train_3_4_stage{number}_{name}"]
            # Batch statistics amplify rounding: float64 is 8e-4 away from the golden float32 logits of stage 2.
            np.testing.assert_allclose(value.detach(), expected, rtol=0, atol=1e-3, err_msg=f"{number} {name}")
    statistics = model.state_dict()
    sums = [statistics[key].double().sum().item() for key in golden["train_3_4_bn_keys"]]
    np.testing.assert_allclose(sums, golden["train_3_4_bn_sum"], rtol=1e-5, atol=1e-5)


def test_a_batch_gives_what_its_images_give_alone(state):
    model = filled(state).eval()
    images = golden_image(5, 3)
    with torch.no_grad():
        together = model(images)
        for i in range(3):
            for whole, alone in zip(together, model(images[i : i + 1]), strict=True):
                for name, value in alone.items():
                    torch.testing.assert_close(whole[name][i], value[0], rtol=0, atol=1e-4)


def test_official_names_shapes_types_and_order(state):
    official = CLRerNet(ClrernetConfig()).official_state_dict()
    published = json.loads((GOLDEN / "state_dict_keys.json").read_text())
    ours = [[key, list(value.shape), str(value.dtype)] for key, value in sorted(official.items())]
    assert ours == [[key, shape, f"torch.{dtype}"] for key, shape, dtype in published]
    order = json.loads((GOLDEN / "state_dict_order.json").read_text())
    assert list(official) == order["order"]


def test_official_weights_survive_the_round_trip(state):
    written = filled(state).official_state_dict()
    assert list(written) == list(state)
    for name, value in written.items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "model._orig_mod.", "module.model."])
def test_prefixes_of_training_engines_are_removed(prefix):
    source, target = CLRerNet(small_config()), CLRerNet(small_config())
    weights = {prefix + name: value for name, value in source.official_state_dict().items()}
    weights |= {"ema_backbone_model_level0_0_weight": torch.zeros(1), "data_preprocessor.mean": torch.zeros(3)}
    if prefix:
        weights |= {"criterion.seg.weight": torch.ones(5), "steps": torch.tensor(7)}
    target.load_official_state_dict({"state_dict": weights, "meta": {}})
    for name, value in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], value), name


def test_mismatched_weights_are_refused_with_the_reason_and_change_nothing():
    target = CLRerNet(small_config())
    before = {name: value.clone() for name, value in target.state_dict().items()}
    good = target.official_state_dict()

    def message(weights) -> str:
        with pytest.raises(UserError) as error:
            target.load_official_state_dict(weights)
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 600
        return str(error.value)

    resnet = CLRerNet(replace(small_config(), backbone=BackboneConfig("resnet18"))).official_state_dict()
    assert "they belong to model.backbone.name=resnet18, the configuration says dla46_c" in message(resnet)
    anchors = CLRerNet(small_config(head=HeadConfig(num_priors=96))).official_state_dict()
    assert "they belong to model.head.num_priors=96, the configuration says 192" in message(anchors)
    cut = {name: value for name, value in good.items() if "fc_norm" not in name}
    assert "2 missing (bbox_head.attention.fc_norm.weight, bbox_head.attention.fc_norm.bias)" in message(cut)
    assert "1 unexpected (bbox_head.extra)" in message({**good, "bbox_head.extra": torch.zeros(1)})
    assert "not the weights of a CLRerNet" in message({"conv.weight": torch.zeros(1)})
    assert "no weights in it" in message({"state_dict": "none"})
    assert "no weights in it" in message({})
    for name, value in target.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_weights_for_another_number_of_lanes_load_but_for_the_segmentation_decoder():
    source, target = CLRerNet(small_config(max_lanes=4)), CLRerNet(small_config(max_lanes=16)).eval()
    with pytest.warns(UserWarning, match="segmentation decoder"):
        target.load_official_state_dict(source.official_state_dict())
    assert torch.equal(target.bbox_head.cls_layers.weight, source.bbox_head.cls_layers.weight)
    features = target.extract_feat(torch.rand(1, 3, 96, 160))
    assert target.segment(features).shape == (1, 17, 96, 160)
    assert target.official_state_dict()["bbox_head.loss_seg.criterion.weight"].shape == (17,)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_makes_a_detector_that_trains(name):
    model = CLRerNet(replace(small_config(), backbone=BackboneConfig(name))).train()
    features = model.extract_feat(torch.rand(2, 3, 96, 160))
    assert [tuple(level.shape) for level in features] == [(2, 64, 12, 20), (2, 64, 6, 10), (2, 64, 3, 5)]
    stages = model.bbox_head(features)
    assert [{key: tuple(value.shape) for key, value in stage.items()} for stage in stages] == 3 * [
        {"cls_logits": (2, 192, 2), "anchor_params": (2, 192, 3), "lengths": (2, 192, 1), "xs": (2, 192, 72)}
    ]
    loss = sum(value.square().mean() for stage in stages for value in stage.values())
    (loss + model.segment(features).square().mean()).backward()
    for key, parameter in model.named_parameters():
        if "f_query" in key or "f_key" in key or "f_value" in key:
            continue  # behind the attention's output scale, which starts at zero
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert key.endswith(".bias") or parameter.grad.abs().max() > 0, key


def test_other_head_sizes_work():
    head = HeadConfig(num_priors=40, num_points=20, sample_points=9, refine_layers=2, feature_channels=32, fc_layers=1)
    model = CLRerNet(small_config(head=head, max_lanes=1)).eval()
    stages = model(torch.rand(1, 3, 96, 160))
    assert [stage["xs"].shape for stage in stages] == [(1, 40, 20)] * 2
    with pytest.raises(UserError, match=r"model\.head\.refine_layers: 4"):
        CLRerNet(small_config(head=HeadConfig(refine_layers=4)))


def test_gradients_of_a_stage_stop_at_its_own_update():
    model = CLRerNet(small_config()).eval()
    stages = model(torch.rand(1, 3, 96, 160))
    embeddings = model.bbox_head.anchor_generator.prior_embeddings.weight

    def reaches(later: torch.Tensor, earlier: torch.Tensor) -> bool:
        return torch.autograd.grad(later.sum(), earlier, retain_graph=True, allow_unused=True)[0] is not None

    assert reaches(stages[0]["xs"], embeddings)
    assert not reaches(stages[1]["xs"], stages[0]["anchor_params"])
    assert not reaches(stages[2]["xs"], stages[1]["anchor_params"])


def test_reduced_precision_keeps_the_geometry_in_full_precision():
    model = CLRerNet(small_config()).eval()
    images = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        exact = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = model(images)
    for whole, half in zip(exact, rough, strict=True):
        for name, value in half.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, whole[name], rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 160, 96), r"images: shape \(1, 3, 160, 96\), but this model takes \(batch, 3, 96, 160\)"),
        (torch.rand(3, 96, 160), r"images: shape \(3, 96, 160\)"),
        (torch.rand(1, 1, 96, 160), r"images: shape \(1, 1, 96, 160\)"),
        (torch.zeros(1, 3, 96, 160, dtype=torch.uint8), r"images: torch\.uint8.*divide by 255"),
    ],
)
def test_unfit_images_are_refused(images, message):
    with pytest.raises(UserError, match=message):
        CLRerNet(small_config())(images)


def test_a_viewport_that_the_strides_do_not_divide_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"model\.viewport: 650x250 is not a multiple of 32 in both; use 640x256"):
        CLRerNet(ClrernetConfig(viewport=Viewport(width=650, height=250)))


def test_an_empty_batch_gives_empty_predictions():
    with torch.no_grad():
        stages = CLRerNet(small_config()).eval()(torch.rand(0, 3, 96, 160))
    assert stages[-1]["xs"].shape == (0, 192, 72)
