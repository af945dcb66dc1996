"""The canvas on which lanes are compared: one size for all frames, or every frame scaled to one width."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from clrernetlm.config import EvaluationConfig
from clrernetlm.core.arrays import Float64Array, Points
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_headers import image_size as size_of_image
from clrernetlm.core.viewport import FrameSize
from clrernetlm.metrics.culane_metric import lane_ious

CANVAS_WIDTH = 1640  # pixels that a frame is scaled to where no size is set: CULane's width
SLACK = 1.02  # a frame may be larger than the canvas by this: a rounded size moves lanes by less than their width
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


def require_fitting_frame(image_size: ImageSize, path: PathLike, frame: FrameSize) -> None:
    """Raise UserError, naming the image, for a frame (width, height) that is larger than the canvas set for all."""
    if image_size is not None and (frame[0] > SLACK * image_size[0] or frame[1] > SLACK * image_size[1]):
        raise _larger(image_size, path, f"a frame of {frame[0]}x{frame[1]} is")


def require_fitting_labels(image_size: ImageSize, root: PathLike, image: str, lanes: Iterable[Float64Array]) -> None:
    """Raise UserError for labels (N, 2) in pixels that belong to a frame larger than the canvas set for all.

    Lanes may leave a frame at its sides, so that single points say nothing: a frame counts as larger when its image
    says so, and where there is none, when labels reach below the canvas or lie to the right of it.
    """
    if image_size is None:
        return
    right, bottom = SLACK * image_size[0], SLACK * image_size[1]
    for points in lanes:
        if len(points) and ((points[:, 1] > bottom).any() or (points[:, 0] > right).all()):
            path = os.path.join(root, image.lstrip("/"))
            if os.path.isfile(path):
                require_fitting_frame(image_size, path, size_of_image(path))
                return
            x, y = points.max(axis=0)
            raise _larger(image_size, path, f"labels that reach x = {x:g}, y = {y:g} are")


def _larger(image_size: FrameSize, path: PathLike, what: str) -> UserError:
    return UserError(
        f"{path}: {what} larger than the {canvas_words(image_size)} on which lanes are compared; set image_size to the "
        "size of the frames, or to None (`evaluate --image-size auto`), which scales every frame"
    )


def canvas_words(image_size: ImageSize) -> str:
    """Where lanes are compared, for people."""
    return f"{image_size[0]}x{image_size[1]}" if image_size else f"frames scaled to {CANVAS_WIDTH} px wide"


def frame_ious(
    settings: EvaluationConfig, found: Sequence[Points], labels: Sequence[Points], frame: FrameSize
) -> Float64Array:
    """`lane_ious` of lanes (N, 2) in pixels of a frame (width, height), on the canvas of the settings."""
    scale = frame_scale(settings.image_size, frame)
    if scale != 1:
        found, labels = [points * scale for points in found], [points * scale for points in labels]
    size = canvas_size(settings.image_size, frame)
    return lane_ious(found, labels, settings.semantics, settings.lane_width, size)
