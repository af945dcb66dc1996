"""Training requests: the same draws give the same requests, and targets fit the requests."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.config import LaneLMTrainingRequestsConfig
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import Requests
from clrernetlm.models.lanelm.training_requests import (
    CLEAN,
    DRAWS,
    END_JITTER,
    HALF_LANE_WIDTH,
    KNOWN_SCORE,
    TrainingRequests,
    build_training_requests,
    jitter_ends,
    lane_iou,
    normal,
    num_candidates,
)
from tests.helpers.lanelm_networks import SIZE, STEPS

WIDTH, HEIGHT = SIZE
LANES, PROPOSED = 4, 5
CONFIG = LaneLMTrainingRequestsConfig()


def labels_of(batch: int, rng: np.random.Generator) -> torch.Tensor:
    """(B, LANES, T) slanting lanes apart from each other, one to all of the slots filled."""
    rows = np.arange(STEPS)
    bottom = WIDTH * (np.arange(LANES) + 0.5 + rng.uniform(-0.2, 0.2, (batch, LANES))) / LANES
    xs = bottom[..., None] + (WIDTH / 2 - bottom[..., None]) * 0.7 * (1 - rows / STEPS)
    first = rng.integers(0, STEPS - 3, (batch, LANES, 1))
    count = rng.integers(1, LANES + 1, (batch, 1, 1))
    there = (rows >= first) & (np.arange(LANES)[:, None] < count)
    return torch.from_numpy(np.where(there, xs, np.nan).astype(np.float32))


def proposals_of(labels: torch.Tensor, rng: np.random.Generator) -> Proposals:
    """Return the lanes, moved a little, and one proposal that is no lane."""
    batch = len(labels)
    near = labels + torch.from_numpy(rng.normal(0, 2, (batch, LANES, 1)).astype(np.float32))
    other = torch.from_numpy(rng.uniform(0, WIDTH, (batch, 1, 1)).astype(np.float32)).expand(-1, -1, STEPS)
    xs = torch.cat([near, other], dim=1)
    scores = torch.from_numpy(rng.uniform(0.1, 1, (batch, PROPOSED)).astype(np.float32))
    shown = xs.isfinite()
    return Proposals(xs.nan_to_num(0), shown, scores * shown.any(-1))


def draws_of(batch: int, rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.random((batch, num_candidates(PROPOSED, LANES), DRAWS + STEPS), np.float32))


def lesson(
    batch: int = 6, seed: int = 0, config: LaneLMTrainingRequestsConfig = CONFIG
) -> tuple[TrainingRequests, torch.Tensor]:
    rng = np.random.default_rng(seed)
    labels = labels_of(batch, rng)
    return build_training_requests(config, SIZE, proposals_of(labels, rng), labels, draws_of(batch, rng)), labels


def parts(lessons: TrainingRequests) -> list[torch.Tensor]:
    requests = [getattr(lessons.requests, item.name) for item in fields(Requests)]
    return [*requests, lessons.targets, lessons.inputs]


def test_the_same_draws_give_the_same_requests_and_others_differ() -> None:
    once, again, other = lesson(seed=0)[0], lesson(seed=0)[0], lesson(seed=1)[0]
    for a, b in zip(parts(once), parts(again), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    assert not torch.allclose(once.requests.proposal_x, other.requests.proposal_x)


def test_an_image_alone_gives_the_requests_it_gives_in_a_batch() -> None:
    rng = np.random.default_rng(0)
    labels = labels_of(5, rng)
    proposals, draws = proposals_of(labels, rng), draws_of(5, rng)
    together = build_training_requests(CONFIG, SIZE, proposals, labels, draws)
    for image in range(5):
        one = slice(image, image + 1)
        few = Proposals(proposals.xs[one], proposals.visible[one], proposals.scores[one])
        alone = build_training_requests(CONFIG, SIZE, few, labels[one], draws[one])
        for a, b in zip(parts(alone), parts(together), strict=True):
            torch.testing.assert_close(a, b[one], rtol=0, atol=1e-5, equal_nan=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_requests_and_targets_fit_together(seed: int) -> None:
    lessons, labels = lesson(4, seed, replace(CONFIG, proposal_noise=0.0))
    requests, targets = lessons.requests, lessons.targets
    count = CONFIG.proposals + CONFIG.synthetic_proposals + CONFIG.prompt_only
    assert targets.shape == (4, count, STEPS)
    there = targets.isfinite()
    has_lane, has_proposal, has_prompt = there.any(-1), requests.proposal_mask.any(-1), requests.prompt_mask.any(-1)
    # Requests that are not masked have targets, and requests without targets are masked.
    assert (requests.request_mask <= (has_proposal | has_prompt)).all()
    # Requests without proposal and lane are masked. Prompts are on lanes.
    assert not (requests.request_mask & ~has_proposal & ~has_lane).any()
    assert not (has_prompt & ~has_lane).any()
    # An answer is one complete label.
    same = ((targets[:, :, None] - labels[:, None]).abs() < 1e-6) | (~there[:, :, None] & ~labels.isfinite()[:, None])
    assert (same.all(-1).any(-1) | ~has_lane).all()
    # A true proposal is near its lane; a false one overlaps with no lane.
    asked_question = requests.request_mask & has_proposal
    apart = (requests.proposal_x - targets).abs().nanmean(-1)
    assert (apart[asked_question & has_lane] < 2 * HALF_LANE_WIDTH * WIDTH).all()
    overlap = lane_iou(
        requests.proposal_x / WIDTH, requests.proposal_mask, labels.nan_to_num(0) / WIDTH, labels.isfinite()
    )
    assert (overlap.amax(-1)[asked_question & ~has_lane] < 0.55).all()  # 0.4, and ends are jittered afterwards
    # Input keypoints are on the rows of the lane.
    assert lessons.inputs.isfinite().equal(there)
    # Inputs of the network are finite.
    for value in (requests.proposal_x, requests.prompts):
        assert value.isfinite().all()


def test_training_requests_contain_all_kinds() -> None:
    lessons, _ = lesson(200)
    requests = lessons.requests
    asked, question, lane = requests.request_mask, requests.proposal_mask.any(-1), lessons.targets.isfinite().any(-1)
    clicks = requests.prompt_mask.sum(-1)
    kinds = {
        "question": asked & question & lane & (clicks == 0),
        "question and clicks": asked & question & lane & (clicks > 0),
        "clicks": asked & ~question & (clicks > 0) & ~requests.is_start,
        "start": asked & ~question & requests.is_start,
        "false question": asked & question & ~lane,
        "score": asked & requests.score.isfinite(),
        "no score": asked & requests.score.isnan(),
        "padding": ~asked,
    }
    shares = {name: float(kind.float().mean()) for name, kind in kinds.items()}
    assert min(shares.values()) > 0.02, shares
    assert sorted(set(clicks[asked].tolist())) == [0, 1, 2, 3, 4]
    assert (clicks[requests.is_start & asked] == 1).all()


def test_prompts_lie_within_their_noise_of_the_lane() -> None:
    rng = np.random.default_rng(0)
    labels = torch.full((50, LANES, STEPS), torch.nan)
    labels[:, :, 4:] = torch.tensor([10.0, 45.0, 80.0, 115.0])[:, None]  # upright, so that only x misses count
    lessons = build_training_requests(CONFIG, SIZE, proposals_of(labels, rng), labels, draws_of(50, rng))
    requests = lessons.requests
    lane = lessons.targets[..., -1:].expand(-1, -1, 4)[requests.prompt_mask]
    clicks, is_start = requests.prompts[requests.prompt_mask], requests.is_start[..., None].expand(-1, -1, 4)
    is_start = is_start[requests.prompt_mask]
    miss = WIDTH * CONFIG.prompt_noise * torch.where(is_start, 3.0, 1.0)
    apart = (clicks[:, 0] - lane).abs()
    assert (apart <= miss + 1e-4).all()
    assert (apart[is_start] > WIDTH * CONFIG.prompt_noise).any()
    spacing = HEIGHT / STEPS
    assert (clicks[:, 1] >= 4 * spacing - 0.3 * miss - 1e-4).all()
    assert (clicks[:, 1] <= (STEPS - 1) * spacing + 0.3 * miss + 1e-4).all()
    assert (clicks[is_start, 1] >= (STEPS - 4) * spacing - 1).all()  # a start is at the lower end


def plain_proposals(*xs: float) -> Proposals:
    lanes = torch.tensor(xs)[None, :, None].expand(1, -1, STEPS).clone()
    scores = torch.linspace(0.9, 0.5, len(xs))[None]
    return Proposals(lanes, torch.ones_like(lanes).bool(), scores)


def test_proposals_are_true_false_or_left_out() -> None:
    labels = torch.full((1, LANES, STEPS), torch.nan)
    labels[0, 0], labels[0, 1] = 30.0, 90.0
    # On a lane; the same lane again; on no lane; on the other lane; below the threshold.
    proposals = plain_proposals(30, 31, 60, 91, 120)
    proposals.scores[0, 4] = 0.001
    draws = draws_of(1, np.random.default_rng(0))
    draws[..., KNOWN_SCORE], draws[..., END_JITTER] = 0.5, 0.6
    config = replace(CONFIG, proposals=5, synthetic_proposals=0, prompt_only=0, proposal_noise=0.0)
    lessons = build_training_requests(config, SIZE, proposals, labels, draws)
    found = {}
    for score, asked, target in zip(
        lessons.requests.score[0].tolist(), lessons.requests.request_mask[0].tolist(), lessons.targets[0], strict=True
    ):
        found[round(score, 3)] = (asked, round(float(target.nan_to_num(0).max()), 1))
    assert found[0.9] == (True, 30)
    assert not found[0.8][0]
    assert found[0.7] == (True, 0)
    assert found[0.6] == (True, 90)
    assert not found[0.001][0]


def test_an_image_without_lanes_gives_negative_requests() -> None:
    labels = torch.full((1, LANES, STEPS), torch.nan)
    lessons = build_training_requests(
        CONFIG, SIZE, plain_proposals(30, 60, 90, 110, 20), labels, draws_of(1, np.random.default_rng(0))
    )
    assert lessons.requests.request_mask.sum() == CONFIG.proposals
    assert not lessons.targets.isfinite().any()


def test_an_image_without_lanes_and_proposals_gives_no_requests() -> None:
    labels = torch.full((2, LANES, STEPS), torch.nan)
    nothing = Proposals(torch.zeros(2, 0, STEPS), torch.zeros(2, 0, STEPS).bool(), torch.zeros(2, 0))
    draws = torch.rand(2, num_candidates(0, LANES), DRAWS + STEPS, generator=torch.Generator().manual_seed(0))
    lessons = build_training_requests(CONFIG, SIZE, nothing, labels, draws)
    assert not lessons.requests.request_mask.any()


def test_input_keypoints_get_noise_unless_it_is_switched_off() -> None:
    rng = np.random.default_rng(0)
    labels = labels_of(10, rng)
    proposals, draws = proposals_of(labels, rng), draws_of(10, rng)
    for clean, expected in ((0.9, 0.0), (0.1, 1.0)):
        draws[..., CLEAN] = clean
        lessons = build_training_requests(CONFIG, SIZE, proposals, labels, draws)
        there = lessons.targets.isfinite()
        apart = (lessons.inputs - lessons.targets)[there].abs()
        assert (apart > 0).float().mean() == pytest.approx(expected, abs=0.01)
        assert apart.mean() < 3 * WIDTH * CONFIG.input_noise


def test_proposals_end_a_few_rows_away_from_their_lane() -> None:
    shown = torch.zeros(1, 400, STEPS, dtype=torch.bool)
    shown[..., 4:10] = True
    draws = torch.rand(1, 400, 2, generator=torch.Generator().manual_seed(0))
    trimmed = jitter_ends(shown, draws)
    first = trimmed.float().argmax(-1)
    last = STEPS - 1 - trimmed.flip(-1).float().argmax(-1)
    assert sorted(first.unique().tolist()) == [1, 2, 3, 4, 5, 6, 7]
    assert last.max() == 9
    assert last.min() < 9
    assert (last - first >= 1).all()
    assert not jitter_ends(shown & False, draws).any()


def test_uniform_draws_become_normal() -> None:
    numbers = normal(torch.rand(20000, generator=torch.Generator().manual_seed(0)))
    assert numbers.mean().abs() < 0.03
    assert numbers.std() == pytest.approx(1, abs=0.03)
    assert normal(torch.tensor([0.0, 1.0])).abs().max() < 4
