"""Predictor: image in, lanes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clrernetlm.config import Config, load_config
from clrernetlm.errors import UserError
from clrernetlm.geometry import FrameSize
from clrernetlm.lane import Lane
from clrernetlm.models.clrernet import init_detector
from clrernetlm.models.decode import decode_lanes

Image = NDArray[np.uint8]  # (H, W, 3) BGR


class Predictor:
    """A detector ready for images of any size.

    `config` is a Config, a path or a name; `checkpoint` a `.ckpt`, `.pth` or `.safetensors` file. The costly half is
    `set_image` (network), the cheap half `lanes` (threshold, NMS, points), so thresholds can be tried for free:

        predictor = Predictor("clrernet_culane_dla34", "clrernet_culane_dla34.pth")
        predictor.set_image(cv2.imread("road.jpg"))
        for lane in predictor.lanes():
            print(lane.score, lane.points)

    Raises UserError for an unusable config, checkpoint, device or image.
    """

    def __init__(self, config: Config | str, checkpoint: str | None = None, device: str = "cpu") -> None:
        self.config = load_config(config) if isinstance(config, str) else config
        self.model = init_detector(self.config, checkpoint, device)
        self.device = next(self.model.parameters()).device
        self._stage: dict[str, Tensor] | None = None
        self._frames: list[FrameSize] = []

    @torch.inference_mode()
    def set_images(self, images: Sequence[Image]) -> None:
        """Run the network on a batch of (H, W, 3) uint8 BGR images, each of its own size."""
        viewport = self.config.model.viewport
        frames = [frame_size(image) for image in images]
        # One contiguous uint8 batch crosses to the device; scaling to [0, 1] happens there.
        batch = np.stack([viewport.apply(image) for image in images])  # (B, H, W, 3)
        inputs = torch.from_numpy(batch).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        self._stage, self._frames = self.model(inputs)[-1], frames

    def set_image(self, image: Image) -> None:
        """Run the network on one (H, W, 3) uint8 BGR image."""
        self.set_images([image])

    def lanes_of_images(self, conf: float | None = None) -> list[list[Lane]]:
        """Lanes of every image given last, best first, in pixels of that image; `conf` overrides the threshold."""
        if self._stage is None:
            raise UserError("predictor: no image yet; call set_image(image) first")
        decode = self.config.model.decode
        if conf is not None:
            decode = replace(decode, conf_threshold=conf)
        return decode_lanes(
            self._stage, decode, self.config.model.viewport, self._frames, max_lanes=self.config.model.max_lanes
        )

    def lanes(self, conf: float | None = None) -> list[Lane]:
        """Lanes of the image given last, best first, in pixels of that image."""
        return self.lanes_of_images(conf)[0]


def frame_size(image: Image) -> FrameSize:
    """(width, height) of a BGR image; raises UserError for anything else."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise UserError(f"image: {found}; expected uint8 of shape (height, width, 3), BGR as cv2.imread returns")
    if 0 in image.shape:
        raise UserError(f"image: {image.shape[1]}x{image.shape[0]} has no pixels")
    return image.shape[1], image.shape[0]
