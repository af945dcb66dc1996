"""Lanes from clicks: which detection they refine, whether they are probably lanes, and clicks that end them."""

import numpy as np
import pytest
import torch

from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import HIDDEN_CODES
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.completed_lane import completed_lane, refined_detection
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import requests_from_clicks

VIEW, FRAME = Viewport(width=512, height=192, top=0.4), (1280, 720)
LANE = Lane(np.stack([np.linspace(100, 400, 11), np.linspace(700, 300, 11)], -1), 0.7)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [("none", (700, 300)), ("top", (700, 330)), ("bottom", (610, 300)), ("both", (610, 330))],
)
def test_the_outermost_clicks_end_the_lane_where_they_are_told_to(ends, expected):
    lane = completed_lane(LANE, None, 0.5, np.array([[377.5, 330.0], [250.0, 500.0], [167.5, 610.0]]), ends)
    assert (lane.points[0, 1], lane.points[-1, 1]) == expected
    np.testing.assert_allclose(lane.points[:, 0], 100 + (700 - lane.points[:, 1]) * 0.75)
    assert (np.diff(lane.points[:, 1]) < 0).all()


def test_a_lane_says_whether_its_score_reaches_the_threshold():
    clicks = np.array([[250.0, 500.0]])
    assert completed_lane(LANE, None, 0.7, clicks, "none").is_confident
    assert not completed_lane(LANE, None, 0.71, clicks, "none").is_confident


def test_hidden_points_stay_hidden_in_the_part_between_rows():
    codes = np.zeros(11, np.int8)
    codes[:3] = HIDDEN_CODES["bonnet"]
    part = Lane(LANE.points, 0.7, hidden_by=codes).between(400, 650)
    assert part.visible.tolist() == [y < 600 for y in part.points[:, 1]]
    assert len(Lane(LANE.points).between(0, 10)) == 0


def test_the_detection_near_the_clicks_is_named_and_far_from_it_there_is_none():
    rows = torch.arange(32) * 6.0
    proposals = Proposals(
        torch.full((1, 2, 32), 100.0) + torch.tensor([0.0, 200.0])[None, :, None],
        torch.ones(1, 2, 32).bool(),
        torch.tensor([[0.9, 0.6]]),
    )
    clicks = torch.tensor([[[[303.0, 90.0]], [[200.0, 90.0]]]])
    requests = requests_from_clicks(proposals, clicks, torch.ones(1, 2, 1).bool(), rows, 25.0)
    refined = refined_detection(requests, 0, VIEW, FRAME)
    assert refined.score == pytest.approx(0.6)
    np.testing.assert_allclose(refined.points[:, 0], 300 * 1280 / 512, atol=1e-3)
    assert refined_detection(requests, 1, VIEW, FRAME) is None
