"""LaneLM: inputs that its logits depend on, and inputs that they must not depend on."""

from dataclasses import fields, replace

import pytest
import torch

from clrernetlm.models.lanelm.cached_decoding import CachedDecoder, prefill
from clrernetlm.models.lanelm.context import Logits
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests
from tests.helpers.lanelm_networks import SETTINGS, SIZE, STEPS, random_levels, random_requests, small_lanelm

LENGTH = 7


def random_answers(batch: int, lanes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """x (B, L, LENGTH) and first rows (B, L) of answers that fit into the rows."""
    g = torch.Generator().manual_seed(seed)
    xs = SIZE[0] * torch.rand(batch, lanes, 1, generator=g) + 3 * torch.rand(batch, lanes, LENGTH, generator=g).cumsum(
        -1
    )
    return xs, torch.randint(0, STEPS - LENGTH + 1, (batch, lanes), generator=g)


def close(a: Logits, b: Logits, tolerance: float = 1e-4) -> None:
    for item in fields(Logits):
        torch.testing.assert_close(getattr(a, item.name), getattr(b, item.name), rtol=0, atol=tolerance)


def of(requests: Requests, logits: Logits) -> Logits:
    """Return the values of the requests that are not masked."""
    asked = requests.request_mask.flatten()
    return Logits(*(getattr(logits, item.name)[asked].detach() for item in fields(Logits)))


def differ(a: Logits, b: Logits) -> bool:
    return any((getattr(a, item.name) - getattr(b, item.name)).abs().max() > 1e-3 for item in fields(Logits))


@torch.no_grad()
def step_by_step(
    model: LaneLM, levels: tuple[torch.Tensor, ...], requests: Requests, xs: torch.Tensor, starts: torch.Tensor
) -> Logits:
    image = model.encode_image(levels)
    context = model.encode_requests(image, requests)
    first, cache = prefill(model, image, context)
    decoder, collected = CachedDecoder(model, image, context, cache, starts, None), [first]
    previous = torch.full_like(xs[..., 0], torch.nan)
    for index, x in enumerate(xs.unbind(-1)):
        collected.append(decoder.next_logits(index, x, previous))
        previous = x
    return Logits(*(torch.cat([getattr(one, item.name) for one in collected], dim=1) for item in fields(Logits)))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_parallel_decoding_equals_step_by_step_decoding(settings: dict[str, object]) -> None:
    model, levels, requests = small_lanelm(**settings), random_levels(3), random_requests(3, 5)
    xs, starts = random_answers(3, 5)
    with torch.no_grad():
        together, _ = model(levels, requests, xs, starts)
    assert together.y.shape == (15, LENGTH + 1, STEPS + 1)
    assert together.offset.shape == (15, LENGTH + 1, 21)
    assert all(getattr(together, item.name).isfinite().all() for item in fields(Logits))
    close(together, step_by_step(model, levels, requests, xs, starts))


@torch.no_grad()
def test_gradients_and_inference_compute_the_same() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 4)
    answers = random_answers(2, 4)
    with torch.enable_grad():
        training, _ = model(levels, requests, *answers)
    close(of(requests, training), of(requests, model(levels, requests, *answers)[0]))


@torch.no_grad()
@pytest.mark.parametrize("autoregressive", [True, False])
def test_earlier_keypoints_matter_unless_autoregressive_is_off(autoregressive: bool) -> None:
    model, levels, requests = small_lanelm(autoregressive=autoregressive), random_levels(2), random_requests(2, 4)
    # Without a reference curve every x follows from the previous one, so the control is for requests with a proposal.
    requests = replace(requests, request_mask=requests.proposal_mask.any(-1))
    xs, starts = random_answers(2, 4)
    before, _ = model(levels, requests, xs, starts)
    after, _ = model(levels, requests, xs + 9, starts)
    assert differ(of(requests, before), of(requests, after)) == autoregressive


@torch.no_grad()
def test_a_keypoint_changes_only_later_logits() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 4)
    xs, starts = random_answers(2, 4)
    before, _ = model(levels, requests, xs, starts)
    for place in range(LENGTH):
        changed = xs.clone()
        changed[..., place] += 11
        after, _ = model(levels, requests, changed, starts)
        torch.testing.assert_close(after.y[:, : place + 1], before.y[:, : place + 1], rtol=0, atol=1e-5)
        assert ((after.y - before.y)[:, place + 1].abs().amax(-1) > 1e-4).all()


@torch.no_grad()
def test_masked_inputs_have_no_influence() -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 6)
    answers = random_answers(2, 6)
    before, _ = model(levels, requests, *answers)
    no_question = ~requests.proposal_mask.any(-1, keepdim=True)
    rubbish = replace(
        requests,
        proposal_x=torch.where(no_question, 55.0, requests.proposal_x),
        prompts=torch.where(requests.prompt_mask[..., None], requests.prompts, 33.0),
    )
    assert no_question.any()
    assert not requests.prompt_mask.all()
    after, _ = model(levels, rubbish, *answers)
    close(of(requests, before), of(requests, after))


@torch.no_grad()
@pytest.mark.parametrize("name", ["proposal_x", "proposal_mask", "score", "prompts", "prompt_mask", "is_start"])
def test_every_input_has_influence(name: str) -> None:
    model, levels, requests = small_lanelm(), random_levels(2), random_requests(2, 6)
    value = getattr(requests, name)
    if value.dtype == torch.bool:
        other = value & False
    else:
        other = value.nan_to_num(0.2) / 2
    answers = random_answers(2, 6)
    before = model(levels, requests, *answers)[0]
    after = model(levels, replace(requests, **{name: other}), *answers)[0]
    assert differ(of(requests, before), of(requests, after))


@torch.no_grad()
@pytest.mark.parametrize("settings", [{"global_attention": False}, {"local_sampling": False}], ids=str)
def test_local_sampling_and_global_attention_each_use_the_image(settings: dict[str, object]) -> None:
    model, requests, answers = small_lanelm(**settings), random_requests(2, 4), random_answers(2, 4)
    assert differ(*(model(random_levels(2, seed), requests, *answers)[0] for seed in (0, 1)))


@torch.no_grad()
def test_a_model_without_both_image_paths_ignores_the_image() -> None:
    model = small_lanelm(global_attention=False, local_sampling=False)
    requests, answers = random_requests(2, 4), random_answers(2, 4)
    close(*(model(random_levels(2, seed), requests, *answers)[0] for seed in (0, 1)), tolerance=0)


@pytest.mark.parametrize("settings", [{}, {"num_layers": 1}, {"offset_tokens": False}], ids=str)
def test_training_reaches_every_weight(settings: dict[str, object]) -> None:
    model, levels, requests = small_lanelm(**settings), random_levels(2), random_requests(2, 6)
    logits, _ = model(levels, requests, *random_answers(2, 6))
    sum(getattr(logits, item.name).square().mean() for item in fields(Logits)).backward()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert [name for name, weight in trained.items() if weight.grad is None or not weight.grad.any()] == []
