"""Conversion of answers to lanes in the frame."""

import numpy as np
import pytest
import torch

from clrernetlm.config import LaneLMDecodeConfig
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.postprocess import keypoints, lanes_from_answers

STEPS = 16
VIEW = Viewport(128, 64, top=0.4)
FRAME = (410, 148)
CONFIG = LaneLMDecodeConfig(nms_threshold=6 / 128)


def answers(xs: list[torch.Tensor], scores: list[float]) -> Answers:
    """Return the answers for lanes of one image, NaN off the lane."""
    stack = torch.stack(xs)[None]
    return Answers(stack.nan_to_num(0), stack.isfinite(), torch.tensor([scores]))


def straight(bottom: float, top: float, first: int = 3, last: int = STEPS - 1) -> torch.Tensor:
    rows = torch.arange(STEPS)
    xs = top + (bottom - top) * rows / STEPS
    return xs.masked_fill((rows < first) | (rows > last), torch.nan)


def test_lanes_convert_to_keypoints_and_back() -> None:
    rows = np.arange(STEPS) * 64 / STEPS
    xs = straight(100, 60)
    [[lane]] = lanes_from_answers(answers([xs], [0.8]), CONFIG, VIEW, [FRAME], 4)
    network = VIEW.to_network(lane.points, FRAME)
    assert (np.diff(lane.points[:, 1]) < 0).all()  # bottom first
    assert lane.points[0, 1] == pytest.approx(FRAME[1])  # it reaches the bottom of the image
    assert lane.score == pytest.approx(0.8)
    expected = 60 + 40 * network[:, 1] / 64  # the same straight line, also where it was prolonged
    np.testing.assert_allclose(network[:, 0], expected, atol=1e-4)
    assert network[-1, 1] == pytest.approx(rows[3] - 2)  # half a row beyond the last


@pytest.mark.parametrize(("first", "last"), [(0, STEPS - 1), (3, 10), (0, 1), (14, 15)])
def test_lanes_are_extended_to_the_bottom_and_half_a_row_upwards(first: int, last: int) -> None:
    xs = straight(100, 60, first, last)
    points = keypoints(xs.nan_to_num(0).numpy(), xs.isfinite().numpy(), VIEW)
    spacing = 64 / STEPS
    assert points[0, 1] == pytest.approx(64 if last == STEPS - 1 else last * spacing)
    assert points[-1, 1] == pytest.approx(max(0, first - 0.5) * spacing)
    np.testing.assert_allclose(points[:, 0], 60 + 40 * points[:, 1] / 64, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_keypoints_are_no_lane(count: int) -> None:
    xs = straight(100, 60, 5, 4 + count)
    assert keypoints(xs.nan_to_num(0).numpy(), xs.isfinite().numpy(), VIEW).shape == (count, 2)
    assert lanes_from_answers(answers([xs], [0.9]), CONFIG, VIEW, [FRAME], 4) == [[]]


def test_lanes_are_sorted_deduplicated_and_thresholded() -> None:
    xs = [straight(30, 30), straight(100, 60), straight(102, 62), straight(60, 60)]
    [lanes] = lanes_from_answers(answers(xs, [0.6, 0.7, 0.9, 0.4]), CONFIG, VIEW, [FRAME], 4)
    assert [round(lane.score, 3) for lane in lanes] == [0.9, 0.6]
    [lanes] = lanes_from_answers(answers(xs, [0.6, 0.7, 0.9, 0.4]), CONFIG, VIEW, [FRAME], 4, threshold=0.3)
    assert [round(lane.score, 3) for lane in lanes] == [0.9, 0.6, 0.4]
    [lanes] = lanes_from_answers(answers(xs, [0.6, 0.7, 0.9, 0.4]), CONFIG, VIEW, [FRAME], 2, threshold=0.3)
    assert [round(lane.score, 3) for lane in lanes] == [0.9, 0.6]


def test_masked_requests_give_no_lane_at_any_threshold() -> None:
    assert lanes_from_answers(answers([straight(30, 30)], [0.0]), CONFIG, VIEW, [FRAME], 4, threshold=0.0) == [[]]


def test_every_image_has_its_own_frame() -> None:
    one = answers([straight(100, 60)], [0.8])
    two = Answers(*(torch.cat([value, value]) for value in (one.xs, one.visible, one.score)))
    [[small], [large]] = lanes_from_answers(two, CONFIG, VIEW, [FRAME, (820, 296)], 4)
    np.testing.assert_allclose(large.points / small.points, 2, rtol=0.01)
