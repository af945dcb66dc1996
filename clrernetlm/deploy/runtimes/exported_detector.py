"""Runs an exported detector in place of a CLRerNet."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.deploy.graph_names import IMAGES, LEVELS, STAGE
from clrernetlm.deploy.runtimes.base import Runtime
from clrernetlm.models.clrernet.detector import DetectorOutput
from clrernetlm.weights.exported_metadata import DETECTOR_PART


class ExportedDetector:
    """Runs the detector's graph in a runtime. Raises UserError for a file that holds another graph."""

    device = torch.device("cpu")

    def __init__(self, runtime: Runtime, name: str) -> None:
        if runtime.metadata.part != DETECTOR_PART:
            raise UserError(f"{name}: holds {runtime.metadata.part}, a part of LaneLM; name the folder it is in")
        runtime.require((IMAGES,), STAGE)
        self.runtime = runtime

    @property
    def config(self) -> Config:
        """Return the settings of the exported model."""
        return self.runtime.metadata.config

    def run(self, images: Tensor) -> DetectorOutput:
        """Run the graph on cropped images (B, 3, H, W) uint8 BGR; the pyramid is empty if the graph does not return it.

        Raises UserError for images of another size, and for predictions of other shapes or that are not finite.
        """
        width, height = self.config.model.viewport.size
        if images.shape[1:] != (3, height, width):
            raise UserError(
                f"images: {images.shape[3]}x{images.shape[2]}, but this file was exported for {width}x{height}; "
                "export it again with the other model.viewport"
            )
        results = self.runtime.run({IMAGES: images.permute(0, 2, 3, 1).numpy()})
        head = self.config.model.head
        sizes = dict(zip(STAGE, (2, 3, 1, head.num_points), strict=True))
        shapes = {name: (len(images), head.num_priors, size) for name, size in sizes.items()}
        self.runtime.require_results(results, shapes)
        found = {name: torch.from_numpy(value) for name, value in results.items()}
        levels = tuple(found[name] for name in LEVELS if name in found)
        return DetectorOutput(levels, {name: found[name] for name in STAGE})
