"""Criterion: the published losses, matches and gradients; effects of images, stages and precision."""

import numpy as np
import pytest
import torch
from torch import nn

from clrernetlm.config.schema import AssignerConfig, ClrernetConfig, LossConfig
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion, build_assigner
from clrernetlm.models.clrernet.detector import CLRerNet
from tests.helpers.golden_weights import GOLDEN, golden_image, golden_masks, golden_state, golden_targets

B = np.load(GOLDEN / "b_forward_loss.npz")
FIELDS = ("cls_logits", "anchor_params", "lengths", "xs")
RUNS = [("b2", "eval", *counts) for counts in B["variants"].tolist()] + [("train_3_4", "train", 3, 4)]


def golden_stages(prefix):
    return [{name: torch.from_numpy(B[f"{prefix}_stage{s}_{name}"]) for name in FIELDS} for s in range(3)]


def image_of(stages, index):
    return [{name: value[index : index + 1] for name, value in stage.items()} for stage in stages]


@pytest.mark.parametrize(("prefix", "mode", "first", "second"), RUNS)
def test_losses_are_the_published_ones(prefix, mode, first, second):
    losses = CLRerNetCriterion(length_target="official")(golden_stages(prefix), golden_targets(first, second))
    assert set(losses) == {"loss_cls", "loss_reg_xytl", "loss_iou"}
    for name, value in losses.items():
        assert value.item() == pytest.approx(float(B[f"{mode}_{first}_{second}_{name}"]), rel=1e-6), name


@pytest.mark.parametrize(("prefix", "mode", "first", "second"), RUNS)
def test_matches_of_every_stage_are_the_published_ones(prefix, mode, first, second):
    assigner = build_assigner(AssignerConfig(), (800, 320))
    for s, stage in enumerate(golden_stages(prefix)):
        for i, row in enumerate(assigner.assign_batch(stage, golden_targets(first, second))):
            rows = (row >= 0).nonzero().flatten()
            key = f"{mode}_{first}_{second}_match_s{s}_i{i}"
            expected = B[key].tolist() if key in B else [[], []]
            assert [rows.tolist(), row[rows].tolist()] == expected, key


@pytest.fixture(scope="module")
def network():
    model = CLRerNet(ClrernetConfig())
    model.load_official_state_dict(golden_state(model.official_state_dict()))
    return model


@pytest.mark.parametrize(("mode", "first", "second"), [("eval", 3, 0), ("eval", 0, 0), ("train", 3, 4)])
def test_gradients_of_the_network_are_the_published_ones(network, mode, first, second):
    network.train(mode == "train")
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    network.zero_grad()
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    features = network.extract_feat(golden_image(2, 2))
    losses = CLRerNetCriterion(length_target="official", max_lanes=4)(
        network.bbox_head(features),
        golden_targets(first, second),
        network.segment(features),
        golden_masks(first, second),
    )
    torch.stack(list(losses.values())).sum().backward()
    for name, value in network.named_buffers():
        value.copy_(buffers[name])  # the next case starts from the same running statistics

    case = f"{mode}_{first}_{second}"
    for name, value in losses.items():
        assert value.item() == pytest.approx(float(B[f"{case}_{name}"]), rel=1e-5), name
    parameters = dict(network.named_parameters())
    # The first layers sum over every pixel, so the number of threads shows; batch statistics amplify the last digits.
    tolerance = 3e-4 if mode == "eval" else 1e-3
    for name, norm in zip(B["grad_names"], B[f"{case}_gradnorm"], strict=True):
        gradient = parameters[str(name)].grad
        if np.isnan(norm):
            assert gradient is None or not gradient.any(), name
            continue
        assert gradient.double().norm().item() == pytest.approx(norm, rel=tolerance, abs=1e-6), name
        key = f"{case}_grad[{name}]"
        if key in B:
            index = np.linspace(0, gradient.numel() - 1, len(B[key])).astype(np.int64)
            values = gradient.flatten().numpy()[index]
            np.testing.assert_allclose(values, B[key], rtol=0, atol=10 * tolerance * np.abs(B[key]).max(), err_msg=key)


def test_a_batch_is_the_mean_of_its_images():
    criterion, stages, targets = CLRerNetCriterion(), golden_stages("b2"), golden_targets(3, 4)
    together = criterion(stages, targets)
    alone = [criterion(image_of(stages, i), targets[i : i + 1]) for i in range(2)]
    for name, value in together.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)


def test_empty_target_slots_change_nothing():
    targets = torch.full((2, 16, 78), -1e5)
    targets[..., 1] = 0
    targets[:, 3:7] = golden_targets(3, 4)
    criterion, stages = CLRerNetCriterion(), golden_stages("b2")
    expected = criterion(stages, golden_targets(3, 4))
    for name, value in criterion(stages, targets).items():
        torch.testing.assert_close(value, expected[name])


def perfect_stage(target, length_rows, y0=None):
    """Return one stage whose 40 anchors all predict the lane `target` (78,), confidently, with the given length."""
    params = torch.stack([target[2] if y0 is None else torch.tensor(y0), target[3] / 799, target[4]])
    return {
        "cls_logits": torch.tensor([-9.0, 9.0]).expand(1, 40, 2),
        "anchor_params": params.expand(1, 40, 3),
        "lengths": torch.full((1, 40, 1), length_rows / 71),
        "xs": (target[6:] / 799).expand(1, 40, 72),
    }


@pytest.mark.parametrize("higher", [0, 7, -3])
def test_the_corrected_length_ends_at_the_end_of_the_lane(higher):
    """A prediction that starts `higher` rows above the lane's start and ends with it has no length loss."""
    target = torch.from_numpy(B["target1"])[0]
    targets = target[None, None].clone()
    targets[..., 2] = 1 - 5 / 71  # starts at row 5 with 50 rows
    targets[..., 5] = 50
    start = 1 - (5 + higher) / 71
    corrected = CLRerNetCriterion()([perfect_stage(target, 50 - higher, start)], targets)["loss_reg_xytl"]
    mirrored = CLRerNetCriterion(length_target="official")([perfect_stage(target, 50 + higher, start)], targets)
    # The remaining loss is that of the start row: SmoothL1 over 4 values, weight 0.2.
    rows = abs(higher)
    expected = 0.2 * (rows - 0.5 if rows >= 1 else 0) / 4
    assert corrected.item() == pytest.approx(expected, abs=1e-4)
    assert mirrored["loss_reg_xytl"].item() == pytest.approx(expected, abs=1e-4)


def test_length_target_comes_from_the_settings_unless_given():
    stages, targets = golden_stages("b2"), golden_targets(3, 4)
    official = CLRerNetCriterion(loss=LossConfig(length_target="official"))(stages, targets)["loss_reg_xytl"]
    assert official == CLRerNetCriterion(length_target="official")(stages, targets)["loss_reg_xytl"]
    corrected = CLRerNetCriterion()(stages, targets)["loss_reg_xytl"]
    assert corrected == CLRerNetCriterion(length_target="corrected")(stages, targets)["loss_reg_xytl"]
    assert corrected != official


@pytest.mark.parametrize("slots", [0, 4])
def test_images_without_lanes_have_only_a_classification_loss(slots):
    stages = [{name: value.clone().requires_grad_() for name, value in s.items()} for s in golden_stages("b2")]
    targets = torch.zeros(2, slots, 78)
    losses = CLRerNetCriterion()(stages, targets)
    torch.stack(list(losses.values())).sum().backward()
    assert losses["loss_reg_xytl"].item() == losses["loss_iou"].item() == 0
    assert losses["loss_cls"].item() == pytest.approx(float(B["eval_0_0_loss_cls"]), rel=1e-6)
    for stage in stages:
        assert stage["cls_logits"].grad.any()
        assert all(stage[name].grad is None or not stage[name].grad.any() for name in FIELDS[1:])


def test_the_weight_of_images_without_lanes_can_be_set():
    stages, targets = golden_stages("b2"), torch.zeros(2, 4, 78)
    published = CLRerNetCriterion()(stages, targets)["loss_cls"]
    torch.testing.assert_close(CLRerNetCriterion(empty_image_lanes=4)(stages, targets)["loss_cls"], published / 4)


def test_only_matched_predictions_get_regression_gradients():
    stages = [{name: value.clone().requires_grad_() for name, value in s.items()} for s in golden_stages("b2")]
    losses = CLRerNetCriterion()(stages, golden_targets(3, 4))
    torch.stack(list(losses.values())).sum().backward()
    for s, stage in enumerate(stages):
        for i in range(2):
            learns = stage["anchor_params"].grad[i].any(-1).nonzero().flatten()
            assert learns.tolist() == B[f"eval_3_4_match_s{s}_i{i}"][0].tolist()


def test_losses_are_float32_under_autocast():
    stages, targets = golden_stages("b2"), golden_targets(3, 4)
    expected = CLRerNetCriterion()(stages, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = CLRerNetCriterion()(stages, targets)
    assert losses == expected


def test_segmentation_loss_needs_masks_and_a_weight():
    stages, targets, masks = golden_stages("b2"), golden_targets(3, 4), golden_masks(3, 4)
    logits = torch.zeros(2, 5, 320, 800)
    assert CLRerNetCriterion()(stages, targets, logits, masks)["loss_seg"].item() == pytest.approx(np.log(5))
    assert "loss_seg" not in CLRerNetCriterion()(stages, targets, logits)
    assert "loss_seg" not in CLRerNetCriterion(loss=LossConfig(seg_weight=0))(stages, targets, logits, masks)


def test_the_criterion_needs_no_device_synchronisation():
    """torch.compile traces one graph without a break: no value is read, and no size depends on data."""
    criterion, stages, targets = CLRerNetCriterion(), golden_stages("b2"), golden_targets(3, 4)
    inputs = (stages, targets, torch.randn(2, 5, 320, 800), golden_masks(3, 4))
    losses = torch.compile(criterion, fullgraph=True, backend="eager")(*inputs)
    for name, value in criterion(*inputs).items():
        torch.testing.assert_close(losses[name], value)
