"""Tracks lanes from frame to frame of a video, so that they keep an identity and move smoothly; pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_positions import with_positions
from clrernetlm.core.viewport import FrameSize

ROWS = 96  # rows of a frame, from its bottom to its top, on which lanes are compared
MAX_DISTANCE = 0.05  # mean distance, fraction of the frame's width, up to which a lane is the same as one frame ago
MIN_COMMON_ROWS = 0.25  # share of the shorter lane's rows that two lanes must have in common to be compared
MAX_MISSED_FRAMES = 5  # in a row in which a track is shown where its lane was last detected
NEWEST_WEIGHT = 0.5  # weight of the newest frame in a lane's position

Xs = NDArray[np.float64]  # (ROWS,) x in pixels of the frame, bottom row first; NaN on rows without the lane


@dataclass(frozen=True)
class Track:
    """One lane over time."""

    identity: int  # from 1 on, in the order of appearance; never used again
    xs: Xs  # smoothed
    score: float  # of the last detection
    missed_frames: int = 0  # frames since the last detection
    detected: Lane | None = None  # the last detection, with the lane's attributes


@dataclass(frozen=True)
class Tracks:
    """All tracks after a frame."""

    active: tuple[Track, ...] = ()
    next_identity: int = 1


def update_tracks(tracks: Tracks, lanes: Sequence[Lane], frame: FrameSize) -> Tracks:
    """Update tracks with the lanes of one more frame (width, height), points in its pixels.

    Lanes and tracks are matched one to one by distance; unmatched lanes begin new tracks. A track ends when its lane
    was not detected in more than `MAX_MISSED_FRAMES` frames. Lanes on fewer than two of the `ROWS` are ignored.
    """
    limit = MAX_DISTANCE * frame[0]
    detected = [(x_on_rows(lane, frame[1]), lane) for lane in lanes]
    detected = [(xs, lane) for xs, lane in detected if np.isfinite(xs).sum() >= 2]
    pairs = match(distances([track.xs for track in tracks.active], [xs for xs, _ in detected]), limit)
    active = []
    for index, track in enumerate(tracks.active):
        if index in pairs:
            xs, lane = detected[pairs[index]]
            active.append(replace(track, xs=smooth(track.xs, xs), score=lane.score, missed_frames=0, detected=lane))
        elif track.missed_frames < MAX_MISSED_FRAMES:
            active.append(replace(track, missed_frames=track.missed_frames + 1))
    new = [found for number, found in enumerate(detected) if number not in pairs.values()]
    active += [
        Track(tracks.next_identity + number, xs, lane.score, detected=lane) for number, (xs, lane) in enumerate(new)
    ]
    return Tracks(tuple(active), tracks.next_identity + len(new))


def visible_lanes(tracks: Tracks, frame: FrameSize) -> list[tuple[Track, Lane]]:
    """List the lanes to show in a frame (width, height), by identity: detected ones and recently missed ones.

    A missed lane is left out where a detected one is as near to it as the same lane would be. Positions are counted
    among the lanes that are shown.
    """
    present = [track for track in tracks.active if track.missed_frames == 0]
    missed = [track for track in tracks.active if track.missed_frames > 0]
    gaps = distances([track.xs for track in missed], [track.xs for track in present])
    kept = present + [
        track for track, row in zip(missed, gaps, strict=True) if not (row < MAX_DISTANCE * frame[0]).any()
    ]
    shown = sorted(kept, key=lambda track: track.identity)
    lanes = with_positions([lane_of_track(track, frame[1]) for track in shown], frame)
    return list(zip(shown, lanes, strict=True))


def with_position_among(lane: Lane, others: Sequence[Lane], frame: FrameSize) -> Lane:
    """Return a lane of a frame (width, height) with its position among other lanes, without those that are the same."""
    height = frame[1]
    gaps = distances([x_on_rows(lane, height)], [x_on_rows(other, height) for other in others])
    limit = MAX_DISTANCE * frame[0]
    different = [other for other, gap in zip(others, gaps.ravel().tolist(), strict=True) if gap >= limit]
    return with_positions([lane, *different], frame)[0]


def row_positions(height: int) -> NDArray[np.float64]:
    """Return y (ROWS,) in pixels, from the bottom of a frame to its top."""
    return np.linspace(height, 0, ROWS)


def x_on_rows(lane: Lane, height: int) -> Xs:
    """Sample x of a lane, in pixels of a frame of this height, on the common rows."""
    return lane.x_at(row_positions(height), margin=0.5 * height / (ROWS - 1))


def lane_of_track(track: Track, height: int) -> Lane:
    """Convert a track to a lane in pixels of a frame of this height, with the attributes of its last detection."""
    exists = np.isfinite(track.xs)
    points = np.stack([track.xs[exists], row_positions(height)[exists]], axis=1)
    detected, hidden_by = track.detected, None
    if detected is None:
        return Lane(points, track.score, identity=track.identity)
    if detected.hidden_by is not None and len(detected):
        nearest = np.abs(points[:, 1, None] - detected.points[:, 1]).argmin(axis=1)
        hidden_by = detected.hidden_by[nearest]
    return Lane(
        points, track.score, detected.type, detected.colour, detected.position, track.identity, hidden_by=hidden_by
    )


def distances(first: Sequence[Xs], second: Sequence[Xs]) -> NDArray[np.float64]:
    """Measure N against M lanes: (N, M) mean |dx| in pixels over their common rows; inf where these are too few."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    a, b = np.stack(first)[:, None], np.stack(second)[None]  # (N, 1, ROWS), (1, M, ROWS)
    gaps = np.abs(a - b)
    common = np.isfinite(gaps).sum(axis=2)
    needed = MIN_COMMON_ROWS * np.minimum(np.isfinite(a).sum(axis=2), np.isfinite(b).sum(axis=2))
    total = np.nan_to_num(gaps).sum(axis=2)
    return np.where(common >= np.maximum(needed, 1), total / np.maximum(common, 1), np.inf)


def match(costs: NDArray[np.float64], limit: float) -> dict[int, int]:
    """Match by distances (N, M) below `limit`, one to one: {n: m} with the most pairs, then the least distance."""
    capped = np.where(costs < limit, costs / limit, costs.size + 1.0)
    rows, columns = linear_sum_assignment(capped)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if costs[row, column] < limit}


def smooth(previous: Xs, newest: Xs) -> Xs:
    """Average the new position with the previous one, on rows that both have."""
    return np.where(
        np.isfinite(previous) & np.isfinite(newest), NEWEST_WEIGHT * newest + (1 - NEWEST_WEIGHT) * previous, newest
    )
