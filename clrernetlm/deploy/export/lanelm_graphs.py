"""Builds LaneLM's three graphs for export: image encoder (`look`), request encoder (`prefill`), next keypoint (`step`).

Tensors passed between them: the image context (`maps_*`, `visual_*`), the row priors of the requests, and the KV cache:
`keys` and `values` (layers, N, heads, P + T, d) with `visible` (N, P + T), for P prefix tokens and T keypoints; N = B *
L requests. Outputs whose first axis is not the batch have it as their second (`keys`, `values`).

Graphs and tensors keep the names of earlier exports; `graph_names` lists them beside the names in the code.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.graph_names import (
    CACHE,
    ENCODE_IMAGE,
    LEVELS,
    MAX_CLICKS,
    PREFILL,
    PREFILL_RESULTS,
    REQUEST,
    ROW_PRIORS,
    STEP,
    STEP_RESULTS,
)
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS
from clrernetlm.models.lanelm.cached_decoding import prefill
from clrernetlm.models.lanelm.context import ImageContext, PromptContext
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.readout import read_first, read_next
from clrernetlm.models.lanelm.requests import Requests, RowPriors

BATCH, LANES, SEQUENCES = "batch", "lanes", "sequences"  # names of sizes that vary


def image_context_names(model: LaneLM) -> tuple[str, ...]:
    """List the outputs of `look`: maps to sample strips from, and every layer's keys and values of the image."""
    config = model.config
    maps = [f"maps_{stride}" for stride in (8, 16, 32)[:PYRAMID_LEVELS]] if config.local_sampling else []
    layers = range(config.num_layers) if config.global_attention else ()
    return (*maps, *(f"visual_{kind}_{layer}" for layer in layers for kind in ("keys", "values")))


def flatten_image_context(image: ImageContext) -> list[Tensor]:
    """List the tensors of an image context in the order of `image_context_names`."""
    return [*image.maps, *(tensor for memory in image.memories if isinstance(memory, tuple) for tensor in memory)]


def unflatten_image_context(model: LaneLM, tensors: list[Tensor]) -> ImageContext:
    """Invert `flatten_image_context`."""
    num_maps = PYRAMID_LEVELS if model.config.local_sampling else 0
    maps, memories = tensors[:num_maps], tensors[num_maps:]
    if not model.config.global_attention:
        return ImageContext(maps, [None] * model.config.num_layers)
    return ImageContext(maps, [(memories[i], memories[i + 1]) for i in range(0, len(memories), 2)])


class EncodeImageGraph(nn.Module):
    """Computes the image context of pyramid levels (B, C, h, w), finest first."""

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        return tuple(flatten_image_context(self.model.encode_image(levels)))


class PrefillGraph(nn.Module):
    """Computes the first keypoint of requests (B, L): image context and requests -> `PREFILL_RESULTS`.

    `lane` (B, L) is the probability that the lane exists, `row` (int64, decoding order) and `x` (network pixels) its
    first keypoint, `sure` in [0, 1] the confidence in x. Requests have room for `MAX_CLICKS` prompts; all of them
    count as present (`request_mask`).
    """

    def __init__(self, model: LaneLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        image = unflatten_image_context(model, list(tensors[: -len(REQUEST)]))
        fields = dict(zip(REQUEST.values(), tensors[-len(REQUEST) :], strict=True))
        requests = Requests(**fields, request_mask=torch.ones_like(fields["is_start"]))
        context = model.encode_requests(image, requests)
        logits, cache = prefill(model, image, context)
        lane_probability, row, x, confidence = read_first(model, context, logits)
        priors = [getattr(context.row_priors, field).float() for field in ROW_PRIORS.values()]
        return (
            *(lane_probability, row, x, confidence, context.has_proposal),
            *priors,
            *(torch.stack(cache.keys), torch.stack(cache.values), cache.visible[:, 0, 0]),
        )


class StepGraph(nn.Module):
    """Computes the next keypoint: image context, row priors, KV cache and the newest keypoint -> `STEP_RESULTS`.

    `x`, `previous_x` (B, L): network pixels, NaN before the first; `row` (B, L) int64: its row in decoding order;
    `place` (1,) int64: its index in the answer. `go_on` (B, L): whether the lane continues on the next row.
    """

    def __init__(self, model: LaneLM, prefix_length: int) -> None:
        super().__init__()
        self.model = model
        self.prefix_length = prefix_length  # tokens before the answer

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        model, steps = self.model, self.model.config.num_steps
        *rest, keys, values, visible, x, previous_x, row, index = tensors
        has_proposal, *priors = rest[-1 - len(ROW_PRIORS) :]
        image = unflatten_image_context(model, rest[: -1 - len(ROW_PRIORS)])
        fields = dict(zip(ROW_PRIORS.values(), priors, strict=True))
        fields["has_reference"] = fields["has_reference"] > 0
        # The cache replaces the prefix tokens.
        context = PromptContext(RowPriors(**fields), has_proposal, keys, visible)

        rows = row.clamp(max=steps - 1)[..., None]
        states = model.answer_tokens(image, context, x[..., None], previous_x[..., None], rows, index)  # (N, 1, D)
        is_slot = torch.arange(visible.shape[1], device=index.device) == self.prefix_length + index  # (P + T,)
        mask = (visible | is_slot)[:, None, None, :]
        new_keys, new_values = [], []
        for number, (layer, memory) in enumerate(zip(model.decoder.stack, image.memories, strict=True)):
            key, value = layer.own_keys_values(states)  # (N, heads, 1, d)
            new_keys.append(torch.where(is_slot[:, None], key, keys[number]))
            new_values.append(torch.where(is_slot[:, None], value, values[number]))
            states = layer.forward_new(states, (new_keys[-1], new_values[-1]), memory, mask)
        continues, next_x, confidence = read_next(model, context, model.logits(model.decoder.norm(states)), row)
        new_visible = visible | is_slot if model.config.autoregressive else visible.clone()
        return continues, next_x, confidence, torch.stack(new_keys), torch.stack(new_values), new_visible


def lanelm_graphs(model: LaneLM, levels: tuple[Tensor, ...]) -> dict[str, Graph]:
    """Build the graphs by name, for any number of images and requests; `levels`: an example pyramid of two images."""
    batch, lanes, steps = len(levels[0]), 3, model.config.num_steps
    context_names = image_context_names(model)
    inputs = dict(zip(LEVELS, levels, strict=True))
    sizes = {name: {0: BATCH} for name in inputs}
    graphs = {ENCODE_IMAGE: Graph(EncodeImageGraph(model).eval(), inputs, context_names, sizes)}
    with torch.no_grad():
        image = dict(zip(context_names, graphs[ENCODE_IMAGE].module(*levels), strict=True))
    image_sizes = {name: {0: BATCH} for name in image}
    examples = {
        "proposal_x": torch.zeros(batch, lanes, steps),
        "proposal_mask": torch.ones(batch, lanes, steps, dtype=torch.bool),
        "score": torch.full((batch, lanes), 0.5),
        "prompts": torch.zeros(batch, lanes, MAX_CLICKS, 2),
        "prompt_mask": torch.zeros(batch, lanes, MAX_CLICKS, dtype=torch.bool),
        "is_start": torch.zeros(batch, lanes, dtype=torch.bool),
    }
    request = {name: examples[field] for name, field in REQUEST.items()}
    sizes = image_sizes | {name: {0: BATCH, 1: LANES} for name in request}
    graphs[PREFILL] = Graph(PrefillGraph(model).eval(), image | request, PREFILL_RESULTS, sizes)
    with torch.no_grad():
        results = graphs[PREFILL].module(*image.values(), *request.values())
    first = dict(zip(PREFILL_RESULTS, results, strict=True))
    inputs = image | {name: first[name] for name in ("has_question", *ROW_PRIORS, *CACHE)}
    inputs |= {"x": first["x"], "previous_x": torch.full_like(first["x"], torch.nan), "row": first["row"]}
    inputs["place"] = torch.zeros(1, dtype=torch.int64)
    per_request = ("has_question", *ROW_PRIORS, "x", "previous_x", "row")
    sizes = image_sizes | {name: {0: BATCH, 1: LANES} for name in per_request}
    sizes |= {"keys": {1: SEQUENCES}, "values": {1: SEQUENCES}, "visible": {0: SEQUENCES}}
    prefix_length = first["visible"].shape[1] - steps
    graphs[STEP] = Graph(StepGraph(model, prefix_length).eval(), inputs, STEP_RESULTS, sizes)
    return graphs
