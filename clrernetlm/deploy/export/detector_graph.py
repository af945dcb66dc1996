"""Builds the detector's graph for export: pixels in, predictions out, with fixed names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from clrernetlm.deploy.graph_names import IMAGES, LANES, LEVELS, STAGE
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.pixel_scaling import normalise


@dataclass(frozen=True)
class Graph:
    """A module to export: names and examples of its inputs, names of its outputs, and which sizes may vary.

    `sizes`: {input: {axis: name}}; inputs that it leaves out are of one shape.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    sizes: dict[str, dict[int, str]]


class DetectorGraph(nn.Module):
    """Computes predictions of the last stage from images (B, H, W, 3) uint8 BGR, cropped and resized.

    `cls_logits` (B, Np, 2), `anchor_params` (B, Np, 3), `lengths` (B, Np, 1), `xs` (B, Np, R) as `CLRerHead` describes
    them; `lanes` (B, Np, 3 + R), the same for lane NMS, best first: score, first row and length in rows, x of every row
    in network pixels, rows from the bottom; with `levels` also the pyramid, which LaneLM reads.

    With `autocast` backbone and pyramid are computed in that precision; the head, whose positions would move by pixels,
    stays in float32.
    """

    def __init__(self, model: CLRerNet, levels: bool = False, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.model = model
        self.levels = levels
        self.autocast = autocast

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = normalise(images.permute(0, 3, 1, 2))
        if self.autocast is None:
            levels = self.model.extract_feat(pixels)
        else:
            with torch.autocast("cpu", dtype=self.autocast):
                levels = tuple(level.float() for level in self.model.extract_feat(pixels))
        stage = self.model.bbox_head(levels)[-1]
        results = [stage[name] for name in STAGE]
        results.append(self.sorted_lanes(*results))
        return (*results, *levels) if self.levels else tuple(results)

    def sorted_lanes(self, cls_logits: Tensor, anchor_params: Tensor, lengths: Tensor, xs: Tensor) -> Tensor:
        """Sort predictions by score: `lanes` (B, Np, 3 + R)."""
        strips, width = xs.shape[2] - 1, self.model.config.viewport.width
        scores, order = cls_logits.softmax(-1)[..., 1].topk(xs.shape[1], dim=1)  # (B, Np)
        rows = torch.cat([(1 - anchor_params[..., :1]) * strips, lengths * strips, xs * (width - 1)], dim=-1)
        rows = rows.gather(1, order[..., None].expand(-1, -1, rows.shape[2]))
        return torch.cat([scores[..., None], rows], dim=-1)


def detector_graph(
    model: CLRerNet, levels: bool = False, dynamic: bool = True, autocast: torch.dtype | None = None
) -> Graph:
    """Build the detector's graph; with `dynamic` for any number of images, else for one at a time."""
    width, height = model.config.viewport.size
    # torch.export would fix a batch of one, even in an axis declared dynamic.
    example = torch.zeros(2 if dynamic else 1, height, width, 3, dtype=torch.uint8)
    outputs = (*STAGE, LANES, *(LEVELS if levels else ()))
    sizes: dict[str, dict[int, str]] = {IMAGES: {0: "batch"}} if dynamic else {}
    return Graph(DetectorGraph(model, levels, autocast).eval(), {IMAGES: example}, outputs, sizes)


@torch.no_grad()
def program_of(graph: Graph) -> torch.export.ExportedProgram:
    """Trace a graph with torch.export."""
    named: dict[str, torch.export.Dim] = {}
    shapes: list[Any] = []
    for name in graph.inputs:
        axes = graph.sizes.get(name, {})
        shapes.append({axis: named.setdefault(size, torch.export.Dim(size, min=1)) for axis, size in axes.items()})
    return torch.export.export(
        graph.module, tuple(graph.inputs.values()), dynamic_shapes=_shape_tree(graph.module, shapes), strict=False
    )


def _shape_tree(module: nn.Module, shapes: list[Any]) -> Any:
    """Arrange shapes as the arguments of `forward`: one after the other, or all in one `*args`."""
    import inspect

    parameters = list(inspect.signature(module.forward).parameters.values())
    starred = len(parameters) == 1 and parameters[0].kind is inspect.Parameter.VAR_POSITIONAL
    return (tuple(shapes),) if starred else tuple(shapes)
