"""An exported detector in the place of a CLRerNet: what `viewing.look` and the engine ask of one."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clrernetlm.config import Config
from clrernetlm.errors import UserError
from clrernetlm.models.lanelm.promptable import Observation
from clrernetlm.runtimes.about import DETECTOR
from clrernetlm.runtimes.base import Runtime
from clrernetlm.runtimes.names import IMAGES, LEVELS, STAGE


class ExportedDetector:
    """The detector's graph in a runtime. Raises UserError for a file that holds another graph."""

    device = torch.device("cpu")

    def __init__(self, runtime: Runtime, name: str) -> None:
        if runtime.about.part != DETECTOR:
            raise UserError(f"{name}: holds {runtime.about.part}, a part of LaneLM; name the folder it is in")
        if runtime.inputs != (IMAGES,) or not set(STAGE) <= set(runtime.outputs):
            raise UserError(f"{name}: takes {', '.join(runtime.inputs)}, but a detector takes {IMAGES}; export again")
        self.runtime = runtime

    @property
    def config(self) -> Config:
        """The settings it was exported with."""
        return self.runtime.about.config

    def observe(self, images: NDArray[np.uint8]) -> Observation:
        """(B, H, W, 3) uint8 BGR, cropped and resized -> predictions, and the pyramid where the graph returns it."""
        width, height = self.config.model.viewport.size
        if images.shape[1:] != (height, width, 3):
            raise UserError(
                f"images: {images.shape[2]}x{images.shape[1]}, but this file was exported for {width}x{height}; "
                "export it again with the other --model.viewport"
            )
        found = {name: torch.from_numpy(value) for name, value in self.runtime.run({IMAGES: images}).items()}
        levels = tuple(found[name] for name in LEVELS if name in found)
        return Observation(levels, {name: found[name] for name in STAGE})
