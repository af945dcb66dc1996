"""From LaneLM's answers to lanes in the original frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clrernetlm.config.schema import LaneLMDecodeConfig
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport, viewports_of_frames
from clrernetlm.models.clrernet.decode import lane_nms
from clrernetlm.models.lanelm.generate import Answers

Floats = NDArray[np.float64]


def answered_lanes(
    answers: Answers,
    config: LaneLMDecodeConfig,
    viewport: Viewport | Sequence[Viewport],
    frame_sizes: Sequence[FrameSize],
    max_lanes: int,
    threshold: float | None = None,
) -> list[list[Lane]]:
    """Answers about B images -> per image its lanes, best first, in pixels of its own frame (width, height).

    An answer below the threshold, of fewer than two keypoints, or closer than `nms_threshold` to a better one is no
    lane. At most `max_lanes` are kept. `viewport`: what was seen of the frames, one for all or one for each.
    """
    threshold = config.lane_threshold if threshold is None else threshold
    xs, shown = answers.xs.cpu().numpy(), answers.shown.cpu().numpy()
    scores = answers.score.float().cpu().numpy()
    views = viewports_of_frames(viewport, len(frame_sizes))
    image, request = np.nonzero((scores >= threshold) & (shown.sum(-1) > 1) & (scores > 0))
    lanes, rows, sure = xs[image, request], shown[image, request], scores[image, request]  # (M, T), (M, T), (M,)
    kept = lane_nms(
        lanes[:, ::-1],
        rows[:, ::-1].argmax(-1),  # the first one from the bottom
        rows.sum(-1),
        sure,
        config.nms_threshold * max((view.width for view in views), default=0),
        max_lanes,
        image,
    )
    images: list[list[Lane]] = [[] for _ in views]
    for i in kept:
        view, frame = views[image[i]], frame_sizes[image[i]]
        points = view.to_frame(keypoints(lanes[i], rows[i], view), frame).astype(np.float64)
        images[image[i]].append(Lane(points, float(sure[i])))
    return images


def keypoints(xs: NDArray[np.floating], shown: NDArray[np.bool_], viewport: Viewport) -> Floats:
    """x on T rows from the top (T,) and the rows a lane is on -> its points (n, 2) in network pixels, bottom first.

    A lane ends somewhere between its last row and the next: half a row is added at the top. At the bottom of the image
    it goes on straight to the edge.
    """
    steps = len(xs)
    spacing = viewport.height / steps
    rows = np.flatnonzero(shown)[::-1]
    points = np.stack([xs[rows].astype(np.float64), rows * spacing], axis=-1)
    if len(points) < 2:
        return points
    parts = [points]
    if rows[0] == steps - 1:
        parts.insert(0, points[:1] + (points[:1] - points[1:2]))
    if rows[-1] > 0:
        parts.append(points[-1:] + 0.5 * (points[-1:] - points[-2:-1]))
    return np.concatenate(parts)
