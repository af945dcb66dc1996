"""Losses: the published numbers, and inputs that used to give wrong results."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.core.errors import UserError
from clrernetlm.models.clrernet.lane_iou import paired_iou, pairwise_iou, width_scale
from clrernetlm.models.clrernet.losses import CLRNetIoULoss, CLRNetSegLoss, KorniaFocalLoss, LaneIoULoss
from tests.helpers.golden_weights import GOLDEN

C = np.load(GOLDEN / "c_losses_costs.npz")
IOU_CASES = ["near", "single", "far", "allinvalid", "onerow", "boundary", "exact", "wild"]
IOU_LOSSES = {
    "LaneIoULoss_cfg": LaneIoULoss(lane_width=7.5 / 800, loss_weight=4.0),
    "LaneIoULoss_def": LaneIoULoss(),
    "CLRNetIoULoss_def": CLRNetIoULoss(),
    "CLRNetIoULoss_w2": CLRNetIoULoss(lane_width=7.5 / 800, loss_weight=2.0),
}
FOCAL_LOSSES = {
    "focal_cfg": KorniaFocalLoss(alpha=0.25, gamma=2.0, loss_weight=2.0),
    "focal_def": KorniaFocalLoss(alpha=0.5),
}


def golden(name):
    return torch.from_numpy(C[name])


@pytest.mark.parametrize("case", IOU_CASES)
@pytest.mark.parametrize("name", IOU_LOSSES)
def test_iou_losses_and_gradients_are_the_published_ones(case, name):
    pred = golden(f"iou_{case}_pred").requires_grad_()
    loss = IOU_LOSSES[name](pred, golden(f"iou_{case}_target"))
    loss.backward()
    assert loss.item() == pytest.approx(float(C[f"iou_{case}_{name}"]), rel=1e-6)
    torch.testing.assert_close(pred.grad, golden(f"iou_{case}_{name}_grad"), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", FOCAL_LOSSES)
def test_focal_loss_and_gradient_are_the_published_ones(name):
    logits = golden("focal_logits").requires_grad_()
    rows = FOCAL_LOSSES[name](logits, golden("focal_target"))
    rows.sum().backward()
    torch.testing.assert_close(rows.detach(), golden(name), rtol=1e-6, atol=0)
    torch.testing.assert_close(logits.grad, golden(f"{name}_grad"), rtol=1e-6, atol=1e-9)


def test_segmentation_loss_and_gradient_are_the_published_ones():
    logits = golden("seg_pred").requires_grad_()
    loss = CLRNetSegLoss(bg_weight=0.4, num_classes=5)(logits, golden("seg_target"))
    loss.backward()
    assert loss.item() == pytest.approx(float(C["seg_cfg"]), rel=1e-6)
    torch.testing.assert_close(logits.grad, golden("seg_cfg_grad"), rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("label", [255, 5, 17])  # "ignore" of the data set, and labels that are no class
def test_segmentation_ignores_values_that_are_no_class(label):
    logits, target = golden("seg_pred"), golden("seg_target")
    ignored = target.clone()
    ignored[:, :7] = label
    loss = CLRNetSegLoss()(logits, ignored)
    torch.testing.assert_close(loss, CLRNetSegLoss()(logits[:, :, 7:], target[:, 7:]))


def test_segmentation_without_a_labelled_pixel_is_zero_with_a_graph():
    logits = golden("seg_pred").requires_grad_()
    loss = CLRNetSegLoss()(logits, torch.full((2, 20, 50), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


def test_segmentation_names_the_wrong_number_of_classes():
    with pytest.raises(UserError, match="5 channels where the loss expects 17"):
        CLRNetSegLoss(num_classes=17)(golden("seg_pred"), golden("seg_target"))


@pytest.mark.parametrize("loss", [CLRNetIoULoss(), LaneIoULoss()])
def test_no_lanes_give_zero_with_a_graph(loss):
    pred = torch.zeros(0, 72, requires_grad=True)
    value = loss(pred, torch.zeros(0, 72))
    value.backward()
    assert value.item() == 0
    assert pred.grad is not None


@pytest.mark.parametrize("gamma", [0.5, 1.5, 2.0])
def test_focal_loss_stays_finite_for_certain_predictions(gamma):
    logits = torch.tensor([[-200.0, 200.0], [200.0, -200.0], [0.0, 0.0]], requires_grad=True)
    rows = KorniaFocalLoss(0.25, gamma)(logits, torch.tensor([1, 1, 0]))
    rows.sum().backward()
    assert rows.isfinite().all()
    assert logits.grad.isfinite().all()


def test_focal_loss_of_float64_logits_is_computed_in_float64():
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.5]], dtype=torch.float64)
    p = logits.softmax(-1) + 1e-6
    each = -0.25 * (1 - p) ** 2 * p.log()
    expected = torch.stack(((1 + 1e-6) * each[0, 1] + 1e-6 * each[0, 0], (1 + 1e-6) * each[1, 0] + 1e-6 * each[1, 1]))
    rows = KorniaFocalLoss(0.25, 2.0)(logits, torch.tensor([1, 0]))
    torch.testing.assert_close(rows, expected, rtol=1e-14, atol=0)


def random_lanes(seed, n, missing=True):
    """(n, 72) x of slanted, slightly wavy lanes; with `missing`, some rows are -1e5 as in targets."""
    generator = torch.Generator().manual_seed(seed)
    height = torch.linspace(0, 1, 72)
    start, end = torch.rand(2, n, 1, generator=generator)
    xs = start + (end - start) * height + 0.01 * torch.randn(n, 72, generator=generator)
    if missing:
        xs[torch.rand(n, 1, generator=generator) < height] = -1e5
    return xs


@given(seed=st.integers(0, 2**32), width=st.floats(0.002, 0.1))
def test_iou_lies_between_its_bounds_and_is_one_only_for_the_same_lane(seed, width):
    target = random_lanes(seed, 5)
    iou = CLRNetIoULoss(lane_width=width).iou(random_lanes(seed + 1, 5, missing=False), target)
    assert (iou > -1).all()
    assert (iou <= 1).all()
    same = CLRNetIoULoss(lane_width=width).iou(target, target)
    visible = ((target >= 0) & (target < 1)).any(-1)
    torch.testing.assert_close(same, visible.float())


@given(seed=st.integers(0, 2**32))
def test_pairwise_and_paired_iou_agree(seed):
    pred, target = random_lanes(seed, 6, missing=False), random_lanes(seed + 1, 6)
    pred_slant, target_slant = width_scale(pred), width_scale(target, ignore_missing=True)
    matrix = pairwise_iou(pred[None], target[None], pred_slant[None], target_slant[None], 0.01)[0]
    paired = paired_iou(pred, target, 0.01 * pred_slant, 0.01 * target_slant)
    torch.testing.assert_close(matrix.diagonal(), paired, rtol=1e-5, atol=1e-6)


def test_a_slanted_lane_is_wider_by_the_cosine_of_its_angle():
    # One frame pixel right per frame pixel up: 45 degrees, so the horizontal cut is sqrt(2) times the lane's width.
    xs = torch.arange(72) * (320 / 71) / 1640
    torch.testing.assert_close(width_scale(xs), torch.full((72,), 2**0.5))
