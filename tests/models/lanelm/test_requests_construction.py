"""Requests built from proposals, start points and clicks."""

import pytest
import torch

from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import requests_from_clicks, requests_from_proposals, requests_from_start_points

STEPS = 8
ROWS = 10.0 * torch.arange(STEPS)


@pytest.fixture
def proposals() -> Proposals:
    """Two images: lanes at x = 20 and 60 on rows 2..7 and 0..5, the second image with only the first of them."""
    xs = torch.tensor([20.0, 60.0, 0.0])[None, :, None].expand(2, 3, STEPS).clone()
    shown = torch.zeros(2, 3, STEPS, dtype=torch.bool)
    shown[:, 0, 2:] = True
    shown[0, 1, :6] = True
    scores = shown.any(-1) * torch.tensor([0.9, 0.5, 0.0])
    return Proposals(xs, shown, scores)


def test_every_proposal_gets_a_request_and_no_empty_slot_does(proposals: Proposals) -> None:
    requests = requests_from_proposals(proposals)
    assert requests.request_mask.tolist() == [[True, True, False], [True, False, False]]
    assert requests.prompts.shape == (2, 3, 0, 2)
    assert requests.proposal_x[0, 0].tolist() == [20] * STEPS  # continues where the mask is False
    assert requests.score[0].tolist() == pytest.approx([0.9, 0.5, 0])


def test_a_start_request_holds_only_the_lowest_point(proposals: Proposals) -> None:
    requests = requests_from_start_points(proposals, ROWS)
    assert requests.prompts[0, :2, 0].tolist() == [[20, 70], [60, 50]]
    assert requests.prompt_mask[..., 0].equal(proposals.visible.any(-1))
    assert requests.request_mask.equal(proposals.visible.any(-1))
    assert not requests.proposal_mask.any()
    assert requests.score.isnan().all()
    assert requests.is_start.all()


def test_clicks_get_the_nearest_proposal(proposals: Proposals) -> None:
    points = torch.tensor([[[22.0, 35.0], [19.0, 65.0]], [[58.0, 31.0], [0, 0]], [[40.0, 31.0], [0, 0]]])
    points = points.expand(2, 3, 2, 2)
    there = torch.tensor([[True, True], [True, False], [True, False]]).expand(2, 3, 2)
    requests = requests_from_clicks(proposals, points, there, ROWS, max_distance=6.0)
    assert requests.proposal_mask.any(-1).tolist() == [[True, True, False], [True, False, False]]
    assert requests.proposal_x[0, :2, 0].tolist() == [20, 60]
    assert requests.proposal_mask[0, 0].equal(proposals.visible[0, 0])
    assert requests.score[0, 0] == pytest.approx(0.9)
    assert requests.score[0, 2].isnan()
    assert requests.request_mask.all()
    assert requests.prompts.equal(points)
    assert not requests.is_start.any()


def test_a_proposal_is_near_clicks_beyond_its_ends(proposals: Proposals) -> None:
    points, there = torch.tensor([20.0, 3.0]).expand(2, 1, 1, 2), torch.ones(2, 1, 1, dtype=torch.bool)
    assert (
        requests_from_clicks(proposals, points, there, ROWS, max_distance=6.0)
        .proposal_mask[0, 0]
        .equal(proposals.visible[0, 0])
    )


@pytest.mark.parametrize("reach", [0.0, 6.0])
def test_clicks_without_proposals(proposals: Proposals, reach: float) -> None:
    points, there = torch.tensor([20.0, 30.0]).expand(2, 1, 1, 2), torch.ones(2, 1, 1, dtype=torch.bool)
    if reach:
        proposals = Proposals(proposals.xs[:, :0], proposals.visible[:, :0], proposals.scores[:, :0])
    requests = requests_from_clicks(proposals, points, there, ROWS, reach)
    assert not requests.proposal_mask.any()
    assert requests.request_mask.all()
    assert requests.score.isnan().all()


def test_an_empty_set_of_clicks_is_masked(proposals: Proposals) -> None:
    points, there = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, dtype=torch.bool)
    requests = requests_from_clicks(proposals, points, there, ROWS, max_distance=6.0)
    assert not requests.request_mask.any()
    assert not requests.proposal_mask.any()
