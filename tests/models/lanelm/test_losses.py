"""Losses: checked against hand computation, and independent of masked requests."""

from dataclasses import fields, replace

import pytest
import torch
import torch.nn.functional as F

from clrernetlm.config import LaneLMTrainingRequestsConfig
from clrernetlm.models.lanelm import lane_lm_loss
from clrernetlm.models.lanelm.context import Logits
from clrernetlm.models.lanelm.losses import (
    keypoint_sequences,
    mean_distance,
    spread_cross_entropy,
    training_request_losses,
)
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import RowPriors, row_priors
from clrernetlm.models.lanelm.training_requests import NO_LANE, TrainingRequests
from tests.helpers.lanelm_networks import SIZE, STEPS, random_requests, small_lanelm

CONFIG = LaneLMTrainingRequestsConfig()


def test_the_plain_loss_is_the_mean_of_both_cross_entropies() -> None:
    g = torch.Generator().manual_seed(0)
    logits_x, logits_y = torch.randn(2, 3, 10, generator=g), torch.randn(2, 3, 5, generator=g)
    x, y = torch.tensor([[3, 0, 9], [1, 2, 0]]), torch.tensor([[0, 4, 1], [4, 2, 4]])
    log_x, log_y = logits_x.log_softmax(-1), logits_y.log_softmax(-1)
    by_hand_x = -(log_x[0, 0, 3] + log_x[0, 2, 9] + log_x[1, 0, 1] + log_x[1, 1, 2]) / 4
    by_hand_y = -(log_y[0, 0, 0] + log_y[0, 2, 1] + log_y[1, 1, 2]) / 3
    found = lane_lm_loss(logits_x, logits_y, x, y, pad_token_x=0, pad_token_y=4)
    torch.testing.assert_close(found, 0.5 * (by_hand_x + by_hand_y))


def test_the_plain_loss_ignores_padding() -> None:
    g = torch.Generator().manual_seed(0)
    logits_x, logits_y = torch.randn(2, 4, 800, generator=g), torch.randn(2, 4, 41, generator=g)
    x, y = torch.randint(1, 800, (2, 4), generator=g), torch.randint(0, 40, (2, 4), generator=g)
    x[:, 2:], y[:, 2:] = 0, 40
    before = lane_lm_loss(logits_x, logits_y, x, y)
    logits_x[:, 2:] += torch.randn(2, 2, 800, generator=g)
    logits_y[:, 2:] = 7
    torch.testing.assert_close(lane_lm_loss(logits_x, logits_y, x, y), before)
    torch.testing.assert_close(lane_lm_loss(logits_x[:, :2], logits_y[:, :2], x[:, :2], y[:, :2]), before)


def test_the_plain_loss_without_lanes_is_0_and_has_a_gradient() -> None:
    logits_x, logits_y = torch.randn(2, 4, 800, requires_grad=True), torch.randn(2, 4, 41, requires_grad=True)
    loss = lane_lm_loss(logits_x, logits_y, torch.zeros(2, 4, dtype=torch.int64), torch.full((2, 4), 40))
    assert loss.item() == 0
    loss.backward()
    assert logits_x.grad is not None
    assert not logits_x.grad.any()


def test_labels_without_spread_are_one_bin() -> None:
    logits = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([0.0, 3.4, 10.6, 19.0, 25.0])
    expected = F.cross_entropy(logits, torch.tensor([0, 3, 11, 19, 19]), reduction="none")
    torch.testing.assert_close(spread_cross_entropy(logits, places, 0.0), expected)


@pytest.mark.parametrize("place", [4.0, 7.3, 12.5])
def test_spread_labels_are_learned_to_a_part_of_a_bin(place: float) -> None:
    bins = torch.arange(20.0)
    bells = torch.stack([-((bins - place - shift) ** 2) / (2 * 1.5**2) for shift in (-0.5, -0.1, 0.0, 0.1, 0.5)])
    losses = spread_cross_entropy(bells, torch.full((5,), place), 1.5)
    assert losses.argmin() == 2
    logits = bells[2].clone().requires_grad_()
    spread_cross_entropy(logits[None], torch.tensor([place]), 1.5).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6  # the minimum


@pytest.mark.parametrize("row_order", ["bottom_up", "top_down"])
def test_answers_are_packed_in_decoding_order(row_order: str) -> None:
    model = small_lanelm(row_order=row_order)
    xs = torch.full((2, STEPS), torch.nan)
    xs[0, 3:8] = torch.tensor([3.0, 4, 5, 6, 7])
    packed, first, count = keypoint_sequences(model, xs)
    assert count.tolist() == [5, 0]
    written = [7, 6, 5, 4, 3] if row_order == "bottom_up" else [3, 4, 5, 6, 7]
    assert packed[0, :5].tolist() == written
    assert packed[0, 5:].isnan().all()
    assert packed[1].isnan().all()
    assert model.row_index(first)[0] == (7 if row_order == "bottom_up" else 3)


def lessons_of(seed: int = 0) -> TrainingRequests:
    g = torch.Generator().manual_seed(seed)
    requests = random_requests(3, 6, seed=seed)
    targets = requests.proposal_x + 4 * torch.rand(3, 6, STEPS, generator=g) - 2
    there = (torch.arange(STEPS) >= torch.randint(0, 6, (3, 6, 1), generator=g)) & (targets > 0) & (targets < SIZE[0])
    there &= torch.rand(3, 6, 1, generator=g) < 0.7
    targets = targets.masked_fill(~there, torch.nan)
    lane = torch.where(targets.isfinite().any(-1), 0, NO_LANE)
    return TrainingRequests(requests, targets, targets, lane)


def perfect(model: LaneLM, lessons: TrainingRequests, order: RowPriors) -> Logits:
    """Return logits of a model that predicts all answers."""
    targets, first, count = keypoint_sequences(model, lessons.targets)
    places = torch.arange(STEPS + 1)
    rows = torch.where(places < count[..., None], first[..., None] + places, STEPS)
    y = 60.0 * F.one_hot(rows, STEPS + 1)
    x = targets.nan_to_num(1.0)
    reference = order.reference.gather(-1, (first[..., None] + places[:-1]).clamp(max=STEPS - 1))

    apart = (x - reference).clamp(-model.offset_range, model.offset_range)  # farther counts as the outermost bin

    def bell(places_of_bins: torch.Tensor, of: torch.Tensor, spacing: float) -> torch.Tensor:
        bells = -(((places_of_bins - of[..., None]) / spacing) ** 2) / (2 * CONFIG.label_sigma**2)
        return F.pad(bells, (0, 0, 0, 1))

    absolute = bell(model.bin_x(), x, SIZE[0] / model.config.nbins_x)
    offset = bell(model.offset_x(), apart, 2 * model.offset_range / (model.config.offset_bins - 1))
    return Logits(*(part.flatten(0, 1) for part in (y, absolute, offset)))


@pytest.mark.parametrize("row_order", ["bottom_up", "top_down"])
def test_perfect_logits_have_the_smallest_loss(row_order: str) -> None:
    model, lessons = small_lanelm(row_order=row_order), lessons_of()
    order = row_priors(lessons.requests, model.rows)
    order = RowPriors(*(model.to_decode_order(getattr(order, item.name)) for item in fields(RowPriors)))
    logits = perfect(model, lessons, order)
    for part in (logits.absolute, logits.offset):
        part.requires_grad_()
    losses = training_request_losses(model, lessons, logits, order, CONFIG)
    assert losses["loss_start"] < 1e-5
    assert losses["loss_y"] < 1e-5
    losses["loss_x"].backward()
    for part in (logits.absolute, logits.offset):  # spread labels leave their own entropy, but nothing to improve
        assert part.grad is not None
        assert part.grad.abs().max() < 5e-4  # a bell cut off at the last bin has its mean a little inside
    # One row too many is a wrong end; another first row is a wrong start.
    worse = replace(logits, y=logits.y.roll(1, dims=-1))
    assert training_request_losses(model, lessons, worse, order, CONFIG)["loss_start"] > 10


def test_masked_requests_and_rows_do_not_count() -> None:
    model, lessons = small_lanelm(), lessons_of()
    order = row_priors(lessons.requests, model.rows)
    order = RowPriors(*(model.to_decode_order(getattr(order, item.name)) for item in fields(RowPriors)))
    g = torch.Generator().manual_seed(1)
    logits = Logits(*(torch.randn(18, STEPS + 1, bins, generator=g) for bins in (STEPS + 1, model.config.nbins_x, 21)))
    before = training_request_losses(model, lessons, logits, order, CONFIG)
    _, _, count = keypoint_sequences(model, lessons.targets)
    asked, count = lessons.requests.request_mask.flatten(), count.flatten()
    assert (~asked).any()
    assert (count[asked] == 0).any()
    beyond = (torch.arange(STEPS + 1) > count[:, None]) | ~asked[:, None]
    beyond_x = (torch.arange(STEPS + 1) >= count[:, None]) | ~asked[:, None]
    changed = Logits(
        torch.where(beyond[..., None], 3.0, logits.y),
        torch.where(beyond_x[..., None], logits.absolute + torch.arange(model.config.nbins_x), logits.absolute),
        torch.where(beyond_x[..., None], logits.offset + torch.arange(21), logits.offset),
    )
    after = training_request_losses(model, lessons, changed, order, CONFIG)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)
        assert value > 0.1


def test_a_batch_without_requests_has_no_loss() -> None:
    model, lessons = small_lanelm(), lessons_of()
    lessons = replace(lessons, requests=replace(lessons.requests, request_mask=lessons.requests.request_mask & False))
    order = row_priors(lessons.requests, model.rows)
    logits = Logits(*(torch.randn(18, STEPS + 1, bins) for bins in (STEPS + 1, model.config.nbins_x, 21)))
    assert all(value == 0 for value in training_request_losses(model, lessons, logits, order, CONFIG).values())


def test_the_mean_loss_pulls_the_mean_of_the_bins_to_the_label() -> None:
    bell = -((torch.arange(9.0) - 4) ** 2) / 2
    at_truth = mean_distance(bell[None], torch.tensor([4.0]))
    beside = mean_distance(bell[None], torch.tensor([7.0]))
    assert at_truth.item() == pytest.approx(0, abs=1e-6)
    assert beside.item() == pytest.approx(3 - 0.5, abs=0.01)  # smooth L1 of three bins
    assert mean_distance(bell[None], torch.tensor([99.0])).item() == pytest.approx(4 - 0.5, abs=0.01)  # the last bin
