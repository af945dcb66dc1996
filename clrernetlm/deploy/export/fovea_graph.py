"""Builds the graph of the fovea for export: patches along lanes in; offsets, ends, visibility and words out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.graph_names import FOVEA_INPUT, FOVEA_RESULTS
from clrernetlm.models.lanelm.fovea.network import LANE_FEATURES, ROW_FEATURES, Fovea, FoveaInput
from clrernetlm.models.lanelm.fovea.patches import COLUMNS, ROWS_PER_STEP


class FoveaGraph(nn.Module):
    """Reads patches (N, 2 T, 64, 3) uint8 and features of rows (N, T, 10) and lanes (N, 4) -> `FOVEA_RESULTS`.

    Inputs and results as in `FoveaInput` and `FoveaOutput`.
    """

    def __init__(self, fovea: Fovea) -> None:
        super().__init__()
        self.fovea = fovea

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        output = self.fovea(FoveaInput(**dict(zip(FOVEA_INPUT.values(), tensors, strict=True))))
        return tuple(getattr(output, name) for name in FOVEA_RESULTS)


def fovea_graph(fovea: Fovea) -> Graph:
    """Build the graph of the fovea, for any number of lanes."""
    lanes = 2  # torch.export would fix a size of one
    examples = {
        "patches": torch.zeros(lanes, fovea.steps * ROWS_PER_STEP, COLUMNS, 3, dtype=torch.uint8),
        "rows": torch.zeros(lanes, fovea.steps, ROW_FEATURES),
        "lane": torch.zeros(lanes, LANE_FEATURES),
    }
    inputs = {name: examples[field] for name, field in FOVEA_INPUT.items()}
    return Graph(FoveaGraph(fovea).eval(), inputs, FOVEA_RESULTS, {name: {0: "lanes"} for name in inputs})
