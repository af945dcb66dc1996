"""The canvas on which lanes are compared: one size for all frames, or every frame scaled to one width."""

from __future__ import annotations

import os

from clrernetlm.errors import UserError
from clrernetlm.files import PathLike
from clrernetlm.geometry import FrameSize
from clrernetlm.image_headers import image_size as size_of_image

CANVAS_WIDTH = 1640  # pixels that a frame is scaled to where no size is set: CULane's width
ImageSize = FrameSize | None  # width, height of the canvas in pixels; None: every frame scaled to CANVAS_WIDTH


def frame_scale(image_size: ImageSize, frame: FrameSize) -> float:
    """Canvas pixels per frame pixel; 1 where one canvas is set, which takes coordinates as they are."""
    return 1.0 if image_size is not None else CANVAS_WIDTH / frame[0]


def canvas_size(image_size: ImageSize, frame: FrameSize) -> FrameSize:
    """(width, height) of the canvas for a frame (width, height)."""
    return image_size or (CANVAS_WIDTH, max(1, round(frame[1] * CANVAS_WIDTH / frame[0])))


def listed_frame(root: PathLike, image: str) -> FrameSize:
    """(width, height) of a listed image, from its header. Raises UserError when it is not there."""
    path = os.path.join(root, image.lstrip("/"))
    if not os.path.isfile(path):
        raise UserError(
            f"{path}: no such image; lanes are compared at the size of their frame: put the images beside their "
            "labels, or set one size such as 1640x590 (image_size)"
        )
    return size_of_image(path)


def canvas_words(image_size: ImageSize) -> str:
    """Where lanes are compared, for people."""
    return f"{image_size[0]}x{image_size[1]}" if image_size else f"frames scaled to {CANVAS_WIDTH} px wide"
