"""LaneLM as three graphs: look at the image, read the request (prefill), write one keypoint (step).

Between them travel a scene (`maps_*`, `visual_*`), the guides of the request, and the cache: `keys` and `values`
(layers, N, heads, P + T, d) with `visible` (N, P + T), for P tokens before the answer and T keypoints; N = B * L
requests. All outputs whose first axis is not the batch carry it as their second (`keys`, `values`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.graph_io import CACHE, FIRST, GUIDES, LEVELS, LOOK, MAX_CLICKS, NEXT, PREFILL, REQUEST, STEP
from clrernetlm.models.lanelm.context import Brief, Scene
from clrernetlm.models.lanelm.generate import next_x, prefill
from clrernetlm.models.lanelm.model import PYRAMID_LEVELS, LaneLM
from clrernetlm.models.lanelm.requests import Guides, Requests

BATCH, LANES, SEQUENCES = "batch", "lanes", "sequences"


def scene_names(model: LaneLM) -> tuple[str, ...]:
    """What `look` returns: maps to sample strips from, and every layer's keys and values of the image."""
    config = model.config
    maps = [f"maps_{stride}" for stride in (8, 16, 32)[:PYRAMID_LEVELS]] if config.local_sampling else []
    layers = range(config.num_layers) if config.global_attention else ()
    return (*maps, *(f"visual_{kind}_{layer}" for layer in layers for kind in ("keys", "values")))


def flat_scene(scene: Scene) -> list[Tensor]:
    """A scene as tensors in the order of `scene_names`."""
    return [*scene.maps, *(value for pair in scene.visual if isinstance(pair, tuple) for value in pair)]


def scene_of(model: LaneLM, tensors: list[Tensor]) -> Scene:
    """The inverse of `flat_scene`."""
    maps = PYRAMID_LEVELS if model.config.local_sampling else 0
    visual = tensors[maps:]
    if not model.config.global_attention:
        return Scene(tensors[:maps], [None] * model.config.num_layers)
    return Scene(tensors[:maps], [(visual[i], visual[i + 1]) for i in range(0, len(visual), 2)])


class LookGraph(nn.Module):
    """Pyramid levels (B, C, h, w), finest first -> the scene."""

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat_scene(self.model.look(levels)))


class PrefillGraph(nn.Module):
    """Scene, and requests (B, L) without `asked` -> `lane`, `row`, `x`, `sure` (B, L), `has_question`, guides, cache.

    `lane` is the probability that there is one, `row` (int64, writing order) and `x` (network pixels) its first
    keypoint, `sure` in [0, 1] that x is right. Requests have places for `MAX_CLICKS` prompts.
    """

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model, steps = self.model, self.model.config.num_steps
        scene = scene_of(model, list(tensors[: -len(REQUEST)]))
        named = dict(zip(REQUEST, tensors[-len(REQUEST) :], strict=True))
        requests = Requests(**named, asked=torch.ones_like(named["is_start"]))
        brief = model.read(scene, requests)
        logits, cache = prefill(model, scene, brief)
        y = logits.y[:, 0].view(*requests.score.shape, steps + 1)
        row = y[..., :steps].argmax(-1)
        x, sure = next_x(model, brief, logits, row)
        guides = [getattr(brief.guides, name).float() for name in GUIDES]
        return (
            *(1 - y.softmax(-1)[..., steps], row, x, sure, brief.has_question),
            *guides,
            *(torch.stack(cache.keys), torch.stack(cache.values), cache.visible[:, 0, 0]),
        )


class StepGraph(nn.Module):
    """Scene, `has_question`, guides, cache, the newest keypoint -> `go_on`, `x`, `sure` of the next one, cache.

    `x`, `previous_x` (B, L): network pixels, NaN before the first; `row` (B, L) int64: its row in writing order;
    `place` (1,) int64: its place in the answer. `go_on` (B, L): the lane goes on to the next row.
    """

    def __init__(self, model: LaneLM, before: int) -> None:
        super().__init__()
        self.model = model
        self.before = before  # tokens before the answer

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model, steps = self.model, self.model.config.num_steps
        *rest, keys, values, visible, x, previous_x, row, place = tensors
        has_question, *order = rest[-1 - len(GUIDES) :]
        scene = scene_of(model, rest[: -1 - len(GUIDES)])
        named = dict(zip(GUIDES, order, strict=True))
        named["referred"] = named["referred"] > 0
        brief = Brief(Guides(**named), has_question, keys, visible)  # its tokens are in the cache

        at = row.clamp(max=steps - 1)[..., None]
        states = model.answer_tokens(scene, brief, x[..., None], previous_x[..., None], at, place)  # (N, 1, D)
        here = torch.arange(visible.shape[1], device=place.device) == self.before + place  # (P + T,)
        seen = (visible | here)[:, None, None, :]
        new_keys, new_values = [], []
        for number, (layer, visual) in enumerate(zip(model.decoder.stack, scene.visual, strict=True)):
            key, value = layer.own_keys_values(states)  # (N, heads, 1, d)
            own = (
                torch.where(here[:, None], key, keys[number]),
                torch.where(here[:, None], value, values[number]),
            )
            new_keys.append(own[0])
            new_values.append(own[1])
            states = layer.extend(states, own, visual, seen)
        logits = model.logits(model.decoder.norm(states))
        y = logits.y[:, 0].view(*x.shape, steps + 1)
        ahead = (row + 1).clamp(max=steps - 1)
        go_on = (y.gather(-1, ahead[..., None])[..., 0] >= y[..., steps]) & (row + 1 < steps)
        next_place, sure = next_x(model, brief, logits, ahead)
        kept = visible | here if model.config.sees_past else visible.clone()
        return go_on, next_place, sure, torch.stack(new_keys), torch.stack(new_values), kept


def lanelm_graphs(model: LaneLM, levels: tuple[Tensor, ...]) -> dict[str, Graph]:
    """The graphs by name. `levels`: an example of a pyramid of two images; images and requests may be of any number."""
    batch, lanes, steps = len(levels[0]), 3, model.config.num_steps
    scene = scene_names(model)
    named = dict(zip(LEVELS, levels, strict=True))
    graphs = {LOOK: Graph(LookGraph(model).eval(), named, scene, {name: {0: BATCH} for name in named})}
    with torch.no_grad():
        seen = dict(zip(scene, graphs[LOOK].module(*levels), strict=True))
    request = {
        "question": torch.zeros(batch, lanes, steps),
        "shown": torch.ones(batch, lanes, steps, dtype=torch.bool),
        "score": torch.full((batch, lanes), 0.5),
        "prompts": torch.zeros(batch, lanes, MAX_CLICKS, 2),
        "prompted": torch.zeros(batch, lanes, MAX_CLICKS, dtype=torch.bool),
        "is_start": torch.zeros(batch, lanes, dtype=torch.bool),
    }
    sizes = {name: {0: BATCH} for name in seen} | {name: {0: BATCH, 1: LANES} for name in request}
    graphs[PREFILL] = Graph(PrefillGraph(model).eval(), seen | request, FIRST, sizes)
    with torch.no_grad():
        told = dict(zip(FIRST, graphs[PREFILL].module(*seen.values(), *request.values()), strict=True))
    inputs = seen | {name: told[name] for name in ("has_question", *GUIDES, *CACHE)}
    inputs |= {"x": told["x"], "previous_x": torch.full_like(told["x"], torch.nan), "row": told["row"]}
    inputs["place"] = torch.zeros(1, dtype=torch.int64)
    per_request = ("has_question", *GUIDES, "x", "previous_x", "row")
    sizes = {name: {0: BATCH} for name in seen} | {name: {0: BATCH, 1: LANES} for name in per_request}
    sizes |= {"keys": {1: SEQUENCES}, "values": {1: SEQUENCES}, "visible": {0: SEQUENCES}}
    before = told["visible"].shape[1] - steps
    graphs[STEP] = Graph(StepGraph(model, before).eval(), inputs, NEXT, sizes)
    return graphs
