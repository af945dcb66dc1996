"""Converts LaneLM's answers to lanes in the original frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from clrernetlm.config.schema import LaneLMDecodeConfig
from clrernetlm.core.arrays import BoolArray, Float64Array, FloatArray
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import LANE_COLOURS, LANE_TYPES, hidden_by_of_seen
from clrernetlm.core.lane_positions import with_positions
from clrernetlm.core.viewport import FrameSize, Viewport, viewports_of_frames
from clrernetlm.models.clrernet.decode import lane_nms
from clrernetlm.models.lanelm.greedy_decoding import Answers


def lanes_from_answers(
    answers: Answers,
    config: LaneLMDecodeConfig,
    viewport: Viewport | Sequence[Viewport],
    frame_sizes: Sequence[FrameSize],
    max_lanes: int,
    threshold: float | None = None,
) -> list[list[Lane]]:
    """Convert answers about B images to lanes per image, best first, in pixels of its own frame (width, height).

    Left out are answers below the threshold, of fewer than two keypoints, or closer than `nms_threshold` to a better
    one. At most `max_lanes` are kept, and numbered from the own car outwards (`with_positions`). `viewport`: the part
    of the frames that the detector got, one for all or one each.
    """
    threshold = config.lane_threshold if threshold is None else threshold
    xs, visible = answers.xs.cpu().numpy(), answers.visible.cpu().numpy()
    scores = answers.score.float().cpu().numpy()
    viewports = viewports_of_frames(viewport, len(frame_sizes))
    image, request = np.nonzero((scores >= threshold) & (visible.sum(-1) > 1) & (scores > 0))
    lanes, rows, confidence = xs[image, request], visible[image, request], scores[image, request]  # M lanes
    kept = lane_nms(
        lanes[:, ::-1],
        rows[:, ::-1].argmax(-1),  # the first visible row from the bottom
        rows.sum(-1),
        confidence,
        config.nms_threshold * max((view.width for view in viewports), default=0),
        max_lanes,
        image,
    )
    images: list[list[Lane]] = [[] for _ in viewports]
    for i in kept:
        view, frame = viewports[image[i]], frame_sizes[image[i]]
        images[image[i]].append(answered_lane(answers, int(image[i]), int(request[i]), view, frame))
    return [with_positions(lanes, frame) for lanes, frame in zip(images, frame_sizes, strict=True)]


def answered_lane(answers: Answers, image: int, request: int, viewport: Viewport, frame: FrameSize) -> Lane:
    """Convert one answer to a lane in pixels of its frame (width, height), with what the fovea has read of it.

    The fovea says which points are seen, not what hides the others: see `hidden_by_of_seen`.
    """
    xs, rows = answers.xs[image, request].cpu().numpy(), answers.visible[image, request].cpu().numpy()
    score, details = float(answers.score[image, request]), answers.details
    if details is None:
        points = viewport.to_frame(keypoints(xs, rows, viewport), frame).astype(np.float64)
        return Lane(points, score)
    top, bottom = details.ends[image, request].tolist()
    network_points = points_between(xs, top, bottom, viewport)
    points = viewport.to_frame(network_points, frame).astype(np.float64)
    row_of_point = (network_points[:, 1] * len(xs) / viewport.height).round().astype(int).clip(0, len(xs) - 1)
    kind = LANE_TYPES[int(details.type[image, request])]
    return Lane(
        points,
        score,
        type=kind,
        # An edge has no paint: the fovea never learns a colour for it.
        colour="unknown" if kind == "edge" else LANE_COLOURS[int(details.colour[image, request])],
        hidden_by=hidden_by_of_seen(details.seen[image, request].cpu().numpy()[row_of_point]),
    )


def points_between(xs: FloatArray, top: float, bottom: float, viewport: Viewport) -> Float64Array:
    """Convert x on T rows from the top (T,) to points (n, 2) in network pixels, bottom first, between fractional rows.

    From the lowest row a lane continues straight. Empty if the ends are less than a tenth of a row apart.
    """
    steps = len(xs)
    if bottom - top < 0.1:
        return np.zeros((0, 2))
    inner = np.arange(np.floor(top) + 1, np.ceil(bottom))
    positions = np.concatenate([[top], inner, [bottom]])[::-1]
    x = np.interp(positions, np.arange(steps), xs.astype(np.float64))
    beyond = positions > steps - 1
    x[beyond] += (positions[beyond] - (steps - 1)) * float(xs[-1] - xs[-2])
    return np.stack([x, positions * (viewport.height / steps)], axis=-1)


def keypoints(xs: FloatArray, visible: BoolArray, viewport: Viewport) -> Float64Array:
    """Convert x on T rows from the top (T,) and visible rows (T,) to points (n, 2) in network pixels, bottom first.

    A lane ends somewhere between its last row and the next: half a row is added at the top. From the lowest row of the
    image it continues straight to the bottom edge.
    """
    steps = len(xs)
    spacing = viewport.height / steps
    rows = np.flatnonzero(visible)[::-1]
    points = np.stack([xs[rows].astype(np.float64), rows * spacing], axis=-1)
    if len(points) < 2:
        return points
    parts = [points]
    if rows[0] == steps - 1:
        parts.insert(0, points[:1] + (points[:1] - points[1:2]))
    if rows[-1] > 0:
        parts.append(points[-1:] + 0.5 * (points[-1:] - points[-2:-1]))
    return np.concatenate(parts)


def remove_hallucinations(answers: Answers, from_bottom: bool, max_points: int = 10) -> Answers:
    """Cut lanes of more than `max_points` keypoints at their first jump, in decoding order (`from_bottom` or not).

    A jump is a sideways step longer than twice the 85th percentile of the lane's steps. Source: LaneLM, hallucination
    removal.
    """
    xs, visible = (answers.xs.flip(-1), answers.visible.flip(-1)) if from_bottom else (answers.xs, answers.visible)
    step = (xs[..., 1:] - xs[..., :-1]).abs()
    both = visible[..., 1:] & visible[..., :-1]
    limit = 2 * step.masked_fill(~both, torch.nan).nanquantile(0.85, dim=-1, keepdim=True)
    jump = both & (step > limit) & (visible.sum(-1, keepdim=True) > max_points)
    after = torch.cat([torch.zeros_like(jump[..., :1]), jump], dim=-1).cumsum(-1) > 0
    kept = visible & ~after
    return Answers(answers.xs, kept.flip(-1) if from_bottom else kept, answers.score)
