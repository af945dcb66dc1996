"""Computes the canvas on which lanes are compared: one size for all frames, or every frame scaled to one width."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from clrernetlm.config import EvaluationConfig
from clrernetlm.core.arrays import Float64Array, Points
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_headers import image_size as image_size_of
from clrernetlm.core.viewport import FrameSize
from clrernetlm.metrics.culane_metric import lane_ious

CANVAS_WIDTH = 1640  # width in pixels to which frames are scaled if no size is set: CULane's
FRAME_TOLERANCE = 1.02  # largest ratio of frame to canvas: a rounded size moves lanes by less than their width
ImageSize = FrameSize | None  # width, height of the canvas in pixels; None: every frame scaled to CANVAS_WIDTH


def frame_scale(image_size: ImageSize, frame: FrameSize) -> float:
    """Compute canvas pixels per frame pixel; 1 if one canvas size is set, on which coordinates are taken unchanged."""
    return 1.0 if image_size is not None else CANVAS_WIDTH / frame[0]


def canvas_size(image_size: ImageSize, frame: FrameSize) -> FrameSize:
    """Compute (width, height) of the canvas for a frame (width, height)."""
    return image_size or (CANVAS_WIDTH, max(1, round(frame[1] * CANVAS_WIDTH / frame[0])))


def listed_frame_size(root: PathLike, image: str) -> FrameSize:
    """Read (width, height) of a listed image from its header. Raises UserError if it is missing."""
    path = os.path.join(root, image.lstrip("/"))
    if not os.path.isfile(path):
        raise UserError(
            f"{path}: no such image; lanes are compared at the size of their frame: put the images beside their "
            "labels, or set one size such as 1640x590 (image_size)"
        )
    return image_size_of(path)


def require_frame_fits(image_size: ImageSize, path: PathLike, frame: FrameSize) -> None:
    """Raise UserError, naming the image, for a frame (width, height) that is larger than the canvas size set."""
    if image_size is not None and (
        frame[0] > FRAME_TOLERANCE * image_size[0] or frame[1] > FRAME_TOLERANCE * image_size[1]
    ):
        raise _larger(image_size, path, f"a frame of {frame[0]}x{frame[1]} is")


def require_labels_fit(image_size: ImageSize, root: PathLike, image: str, lanes: Iterable[Float64Array]) -> None:
    """Raise UserError for labels (N, 2) in pixels of a frame that is larger than the canvas size set.

    Lanes may leave a frame at its sides, so that single points prove nothing. The frame's size is read from its image;
    without one the frame counts as larger if labels reach below the canvas or lie entirely to the right of it.
    """
    if image_size is None:
        return
    right, bottom = FRAME_TOLERANCE * image_size[0], FRAME_TOLERANCE * image_size[1]
    for points in lanes:
        if len(points) and ((points[:, 1] > bottom).any() or (points[:, 0] > right).all()):
            path = os.path.join(root, image.lstrip("/"))
            if os.path.isfile(path):
                require_frame_fits(image_size, path, image_size_of(path))
                return
            x, y = points.max(axis=0)
            raise _larger(image_size, path, f"labels that reach x = {x:g}, y = {y:g} are")


def _larger(image_size: FrameSize, path: PathLike, subject: str) -> UserError:
    """Make the error for a frame larger than the canvas; `subject`: the larger thing and its verb."""
    return UserError(
        f"{path}: {subject} larger than the {describe_canvas(image_size)} on which lanes are compared; set image_size "
        "to the size of the frames, or to None (`evaluate --image-size auto`), which scales every frame"
    )


def describe_canvas(image_size: ImageSize) -> str:
    """Describe the canvas for messages and reports."""
    return f"{image_size[0]}x{image_size[1]}" if image_size else f"frames scaled to {CANVAS_WIDTH} px wide"


def frame_ious(
    settings: EvaluationConfig, found: Sequence[Points], labels: Sequence[Points], frame: FrameSize
) -> Float64Array:
    """Compute `lane_ious` of lanes (N, 2) in pixels of a frame (width, height), on the canvas of the settings."""
    scale = frame_scale(settings.image_size, frame)
    if scale != 1:
        found, labels = [points * scale for points in found], [points * scale for points in labels]
    size = canvas_size(settings.image_size, frame)
    return lane_ious(found, labels, settings.implementation, settings.lane_width, size)
