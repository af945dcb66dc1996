"""Greedy decoding gives the same lanes cached, batched and in any order; removal of hallucinations."""

from dataclasses import fields, replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from clrernetlm.models.lanelm.context import Logits
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.postprocess import remove_hallucinations
from clrernetlm.models.lanelm.readout import mean_around_best, read_x
from clrernetlm.models.lanelm.requests import Requests
from tests.helpers.lanelm_networks import (
    CHANNELS,
    SETTINGS,
    STEPS,
    random_levels,
    random_requests,
    same,
    small_lanelm,
    small_network,
)


def picked(answers: Answers, *index: object) -> Answers:
    return Answers(answers.xs[index], answers.visible[index], answers.score[index])


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_cached_equals_uncached_on_200_lanes(settings: dict[str, object]) -> None:
    model, levels, requests = small_lanelm(**settings), random_levels(25), random_requests(25, 8)
    cached = generate(model, levels, requests)
    same(cached, generate(model, levels, requests, cached=False), requests.request_mask)
    lengths = cached.visible[requests.request_mask].sum(-1)
    assert lengths.unique().numel() > 4  # lanes of all lengths were decoded


def test_an_image_alone_gets_the_lanes_it_gets_in_a_batch() -> None:
    model, levels, requests = small_lanelm(), random_levels(4), random_requests(4, 5)
    together = generate(model, levels, requests)
    for image in range(4):
        one = slice(image, image + 1)
        alone = generate(model, tuple(level[one] for level in levels), requests[one])
        same(alone, picked(together, one), requests.request_mask[one])


def test_the_order_of_the_requests_does_not_matter() -> None:
    model, levels, requests = small_lanelm(), random_levels(3), random_requests(3, 7)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    together = generate(model, levels, requests)
    shuffled = generate(model, levels, requests[:, order])
    same(shuffled, picked(together, slice(None), order), requests.request_mask[:, order])


def test_masked_requests_change_nothing_and_stay_empty() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 6)
    asked = generate(model, levels, requests)
    padding = Requests(*(torch.zeros_like(getattr(requests, item.name)) for item in fields(Requests)))
    padded = Requests(
        *(torch.cat([getattr(requests, item.name), getattr(padding, item.name)], dim=1) for item in fields(Requests))
    )
    answers = generate(model, levels, padded)
    same(picked(answers, slice(None), slice(6)), asked, requests.request_mask)
    assert not answers.visible[:, 6:].any()
    assert not answers.score[:, 6:].any()
    assert not asked.visible[~requests.request_mask].any()
    assert not asked.score[~requests.request_mask].any()


def test_the_number_of_prompt_slots_does_not_matter() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 6, clicks=2)
    wider = replace(
        requests,
        prompts=torch.cat([requests.prompts, torch.full((2, 6, 3, 2), 40.0)], dim=2),
        prompt_mask=torch.cat([requests.prompt_mask, torch.zeros(2, 6, 3, dtype=torch.bool)], dim=2),
    )
    same(generate(model, levels, wider), generate(model, levels, requests), requests.request_mask)
    bare = replace(requests, prompt_mask=requests.prompt_mask & False, request_mask=requests.proposal_mask.any(-1))
    none = replace(bare, prompts=requests.prompts[:, :, :0], prompt_mask=requests.prompt_mask[:, :, :0])
    same(generate(model, levels, none), generate(model, levels, bare), bare.request_mask)


def test_the_order_of_the_prompts_does_not_matter() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 6, clicks=4)
    turned = replace(requests, prompts=requests.prompts.flip(2), prompt_mask=requests.prompt_mask.flip(2))
    same(generate(model, levels, turned), generate(model, levels, requests), requests.request_mask)


def test_no_requests_give_no_answers() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 3)
    nothing = replace(
        requests,
        proposal_mask=requests.proposal_mask & False,
        prompt_mask=requests.prompt_mask & False,
        request_mask=requests.request_mask & False,
    )
    answers = generate(model, levels, nothing)
    assert not answers.visible.any()
    assert not answers.score.any()


@pytest.mark.parametrize("row_order", ["bottom_up", "top_down"])
def test_a_lane_covers_consecutive_rows(row_order: str) -> None:
    model, requests = small_lanelm(row_order=row_order), random_requests(8, 6)
    answers = generate(model, random_levels(8), requests)
    shown = answers.visible[requests.request_mask].int()
    assert ((shown.diff(dim=-1) == 1).sum(-1) + shown[:, 0] == 1).all()
    assert ((answers.score >= 0) & (answers.score <= 1)).all()


@pytest.mark.parametrize("settings", [{}, {"offset_tokens": False}], ids=str)
def test_one_image_many_lanes_and_a_lane_of_one_row(settings: dict[str, object]) -> None:
    model = small_lanelm(**settings)
    with torch.no_grad():
        model.head.proj_y.bias[-1] = 1e4  # always the end token: only the requested first row is decoded
    requests = random_requests(1, 30)
    answers = generate(model, random_levels(1), requests)
    assert (answers.visible.sum(-1) == requests.request_mask.int()).all()
    assert answers.score.max() < 1e-6
    with torch.no_grad():
        model.head.proj_y.bias[-1] = -1e4  # never the end token, and every x is certain
        model.head.proj_x.bias[9] = model.proj_offset.bias[9] = 1e4
    answers = generate(model, random_levels(1), requests)
    assert answers.visible[requests.request_mask][:, 0].all()  # bottom up to the top
    assert answers.score[requests.request_mask].min() > 1 - 1e-6


# x between bins


def test_x_is_interpolated_between_bins() -> None:
    bins = torch.arange(40.0)
    for place in (5.0, 10.3, 20.5, 33.9):
        logits = -((bins - place) ** 2) / (2 * 1.5**2)
        assert mean_around_best(logits[None], 2 * bins).item() == pytest.approx(2 * place, abs=0.05)


def test_distant_bins_do_not_change_x() -> None:
    logits = torch.full((1, 40), -20.0)
    logits[0, 10], logits[0, 11], logits[0, 30] = 5.0, 5.0, 4.9
    assert mean_around_best(logits, torch.arange(40.0)).item() == pytest.approx(10.5, abs=1e-3)


@pytest.mark.parametrize("border", [0, 39])
def test_bins_at_the_border_count_once(border: int) -> None:
    logits = torch.full((1, 40), -torch.inf)
    inner = abs(border - 1)
    logits[0, border], logits[0, inner] = 1.0, 1.0
    assert mean_around_best(logits, torch.arange(40.0)).item() == pytest.approx((border + inner) / 2)


@pytest.mark.parametrize(("width", "nbins"), [(800, 800), (256, 256), (160, 80), (128, 32)])
def test_peaked_logits_give_high_confidence_for_any_bin_width(width: int, nbins: int) -> None:
    torch.manual_seed(0)
    network = small_network(nbins_x=nbins, offset_range=10 / nbins)
    model = LaneLM(network, CHANNELS, (width, 64)).eval()
    levels = tuple(torch.randn(1, CHANNELS, 64 // stride, width // stride) for stride in (8, 16, 32))
    brief = model.encode_requests(model.encode_image(levels), random_requests(1, 20))
    place = nbins * (0.3 + 0.4 * torch.linspace(0, 1, 20))
    absolute = -((torch.arange(nbins) - place[:, None]) ** 2) / 2
    offset = -((torch.arange(21) - 10 - torch.linspace(-2, 2, 20)[:, None]) ** 2) / 2
    logits = Logits(torch.zeros(20, 1, STEPS + 1), absolute[:, None], offset[:, None])
    x, sure = read_x(model, brief, logits, torch.full((1, 20), 3))
    assert x.isfinite().all()
    assert sure.min() > 0.7
    unsure = Logits(logits.y, 0 * logits.absolute, 0 * logits.offset)
    assert read_x(model, brief, unsure, torch.full((1, 20), 3))[1].max() < 0.5


# Hallucinations


def lane(xs: torch.Tensor) -> Answers:
    shown = xs.isfinite()
    return Answers(xs.nan_to_num(0)[None, None], shown[None, None], torch.ones(1, 1))


def test_a_lane_is_cut_at_its_jump_in_decoding_order() -> None:
    xs = 100 + 3 * torch.arange(20.0)
    xs[:6] += 60  # between rows 5 and 6
    cut = remove_hallucinations(lane(xs), from_bottom=True)
    assert cut.visible[0, 0].nonzero().flatten().tolist() == list(range(6, 20))
    assert cut.xs.equal(lane(xs).xs)
    cut = remove_hallucinations(lane(xs), from_bottom=False)
    assert cut.visible[0, 0].nonzero().flatten().tolist() == list(range(6))


def test_everything_after_the_first_jump_is_removed() -> None:
    xs = 100 + 3 * torch.arange(30.0)
    xs[8:12] += 70
    xs[25:] += 90
    assert remove_hallucinations(lane(xs), from_bottom=False).visible[0, 0].nonzero().flatten().tolist() == list(
        range(8)
    )


@pytest.mark.parametrize(
    "xs",
    [
        100 + 3 * torch.arange(20.0),
        100 + 0.2 * torch.arange(20.0) ** 2,  # a bend
        torch.full((20,), 50.0),
        torch.cat([torch.full((4,), torch.nan), 100 - 2 * torch.arange(14.0), torch.full((2,), torch.nan)]),
    ],
    ids=["straight", "bend", "vertical", "part of the rows"],
)
@pytest.mark.parametrize("from_bottom", [True, False])
def test_smooth_lanes_are_kept_whole(xs: torch.Tensor, from_bottom: bool) -> None:
    assert remove_hallucinations(lane(xs), from_bottom).visible.equal(lane(xs).visible)


def test_short_lanes_are_kept_whole() -> None:
    xs = torch.full((20,), torch.nan)
    xs[5:15] = 100.0 + torch.arange(10)
    xs[12:15] += 80
    assert remove_hallucinations(lane(xs), True).visible.equal(lane(xs).visible)  # 10 keypoints
    xs[15] = 195.0
    assert remove_hallucinations(lane(xs), True).visible.sum() == 4  # 11
    assert remove_hallucinations(lane(xs), True, max_points=11).visible.sum() == 11


def test_lanes_are_cut_independently() -> None:
    smooth = 100 + 3 * torch.arange(float(STEPS))
    jump = smooth + 60 * (torch.arange(STEPS) < 4)
    nothing = torch.full((STEPS,), torch.nan)
    stack = torch.stack([torch.stack([smooth, jump]), torch.stack([nothing, smooth])])
    answers = Answers(stack.nan_to_num(0), stack.isfinite(), torch.ones(2, 2))
    assert remove_hallucinations(answers, True).visible.sum(-1).tolist() == [[STEPS, STEPS - 4], [0, STEPS]]


class LargestTensor(TorchDispatchMode):
    """Records the bytes of the largest storage of any operation's result."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.size = max(self.size, value.untyped_storage().nbytes())
        return result


def test_more_lanes_do_not_copy_the_image_features() -> None:
    model = small_lanelm()
    levels = tuple(torch.randn(1, CHANNELS, 512 // stride, 1024 // stride) for stride in (8, 16, 32))
    sizes = []
    for lanes in (1, 8):
        requests = random_requests(1, 8)[:, :lanes]
        requests.request_mask[:] = True
        with LargestTensor() as largest:
            generate(model, levels, requests)
        sizes.append(largest.size)
    assert sizes[0] == sizes[1]
