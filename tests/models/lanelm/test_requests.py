"""Row priors: the reference curve, and the nearest prompts of every row."""

from dataclasses import replace

import torch

from clrernetlm.models.lanelm.requests import Requests, extrapolate_rows, interpolate_rows, row_priors
from tests.helpers.lanelm_networks import SIZE, STEPS, random_requests


def test_the_reference_passes_through_the_prompts() -> None:
    rows = torch.arange(STEPS) * (SIZE[1] / STEPS)
    requests = random_requests(4, 8, clicks=3)
    on_rows = (requests.prompts[..., 1] / rows[1]).floor().clamp(max=STEPS - 1)
    # Of two on one row only one can be passed.
    distinct = (on_rows[..., :, None] == on_rows[..., None, :]).sum((-1, -2)) == 3
    prompts = torch.stack([requests.prompts[..., 0], on_rows * rows[1]], dim=-1)
    given = replace(requests, prompts=prompts)
    order = row_priors(given, rows)
    has_reference = order.has_reference.gather(-1, on_rows.long())
    error = (interpolate_rows(order.reference, on_rows) - prompts[..., 0]).abs()
    passed = requests.prompt_mask & distinct[..., None]
    questioned = requests.proposal_mask.any(-1, keepdim=True)
    assert (passed & questioned).sum() > 5
    assert error[passed & questioned].max() < 1e-3
    assert has_reference[passed & questioned].all()
    several = passed & ~questioned & (requests.prompt_mask.sum(-1, keepdim=True) > 1)
    assert several.any()
    assert error[several & has_reference].max() < 1e-3


def test_the_reference_passes_through_a_prompt_between_two_rows() -> None:
    rows = torch.arange(STEPS) * (SIZE[1] / STEPS)
    requests = random_requests(8, 8, clicks=1)
    requests.prompts[..., 1].clamp_(max=float(rows[-1]))
    order = row_priors(requests, rows)
    passed = interpolate_rows(order.reference, requests.prompts[..., 1] / rows[1])
    both = requests.prompt_mask[..., 0] & requests.proposal_mask.any(-1)
    assert both.sum() > 3
    torch.testing.assert_close(passed[both], requests.prompts[..., 0][both], rtol=0, atol=1e-3)


def test_without_prompts_the_reference_is_the_proposal() -> None:
    rows = torch.arange(STEPS) * (SIZE[1] / STEPS)
    for clicks in (0, 2):
        requests = random_requests(2, 6, clicks=clicks)
        requests = replace(requests, prompt_mask=requests.prompt_mask & False)
        order = row_priors(requests, rows)
        questioned = requests.proposal_mask.any(-1)
        torch.testing.assert_close(order.reference[questioned], requests.proposal_x[questioned])
        assert order.has_reference.all(-1).equal(questioned)
        assert (order.before_rows < 0).all()
        assert (order.after_rows < 0).all()


def test_each_row_has_its_nearest_prompts() -> None:
    rows = torch.arange(4) * 10.0
    nothing = torch.zeros(1, 1, 4)
    requests = Requests(
        proposal_x=nothing,
        proposal_mask=nothing.bool(),
        score=torch.tensor([[torch.nan]]),
        prompts=torch.tensor([[[[50.0, 5.0], [70.0, 25.0]]]]),
        prompt_mask=torch.ones(1, 1, 2, dtype=torch.bool),
        is_start=torch.zeros(1, 1, dtype=torch.bool),
        request_mask=torch.ones(1, 1, dtype=torch.bool),
    )
    order = row_priors(requests, rows)
    assert order.before_rows[0, 0].tolist() == [-1.0, 0.5, 1.5, 0.5]
    assert order.after_rows[0, 0].tolist() == [0.5, 1.5, 0.5, -1.0]
    assert order.before_x[0, 0, 1:].tolist() == [50, 50, 70]
    assert order.after_x[0, 0, :3].tolist() == [50, 70, 70]
    assert order.has_reference[0, 0].tolist() == [False, True, True, False]
    assert order.reference[0, 0, 1:3].tolist() == [55, 65]


def test_proposals_are_extrapolated_straight() -> None:
    line = 3.0 + 2 * torch.arange(10.0)
    shown = torch.zeros(10, dtype=torch.bool)
    shown[3:7] = True
    torch.testing.assert_close(extrapolate_rows(torch.where(shown, line, torch.nan), shown), line)
    shown[4] = shown[5] = False  # a gap, and only its ends are left
    torch.testing.assert_close(extrapolate_rows(torch.where(shown, line, torch.nan), shown), line)
    assert extrapolate_rows(line, torch.zeros(10, dtype=torch.bool)).eq(0).all()
    single = torch.arange(10) == 4
    assert extrapolate_rows(line, single).eq(11).all()
