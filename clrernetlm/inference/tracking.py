"""Lanes of a video that keep their identity from frame to frame, and move smoothly. Pure functions of lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize

ROWS = 96  # rows of a frame, from its bottom to its top, on which lanes are compared
REACH = 0.05  # mean distance, fraction of the frame's width, up to which a lane is the same as one frame ago
COMMON = 0.25  # share of the shorter lane's rows that two lanes must have in common to be compared
PATIENCE = 5  # frames that a lane may be missed and is still shown where it was
NEWEST = 0.5  # weight of the newest frame in a lane's position

Xs = NDArray[np.float64]  # (ROWS,) x in pixels of the frame, bottom row first; NaN where the lane is not


@dataclass(frozen=True)
class Track:
    """One lane over time."""

    identity: int  # from 1 on, in the order of appearance; never used again
    xs: Xs  # smoothed
    score: float  # when last seen
    missed: int = 0  # frames since then


@dataclass(frozen=True)
class Tracks:
    """All lanes that are followed after a frame."""

    active: tuple[Track, ...] = ()
    next_identity: int = 1


def advance(tracks: Tracks, lanes: Sequence[Lane], frame: FrameSize) -> Tracks:
    """The tracks after one more frame (width, height) with these lanes, points in its pixels.

    A lane continues the track that it is nearest to, one to one; others begin a new one. A track ends when its lane has
    been missed in more than `PATIENCE` frames. Lanes shorter than two of the `ROWS` are left out.
    """
    limit = REACH * frame[0]
    seen = [(on_rows(lane, frame[1]), lane.score) for lane in lanes]
    seen = [(xs, score) for xs, score in seen if np.isfinite(xs).sum() >= 2]
    pairs = match(distances([track.xs for track in tracks.active], [xs for xs, _ in seen]), limit)
    active = []
    for index, track in enumerate(tracks.active):
        if index in pairs:
            xs, score = seen[pairs[index]]
            active.append(replace(track, xs=smoothed(track.xs, xs), score=score, missed=0))
        elif track.missed < PATIENCE:
            active.append(replace(track, missed=track.missed + 1))
    new = [found for number, found in enumerate(seen) if number not in pairs.values()]
    active += [Track(tracks.next_identity + number, xs, score) for number, (xs, score) in enumerate(new)]
    return Tracks(tuple(active), tracks.next_identity + len(new))


def shown(tracks: Tracks, frame: FrameSize) -> list[tuple[Track, Lane]]:
    """What to show for a frame (width, height), by identity: lanes seen, and missed ones that no other replaced."""
    present = [track for track in tracks.active if track.missed == 0]
    missed = [track for track in tracks.active if track.missed > 0]
    gaps = distances([track.xs for track in missed], [track.xs for track in present])
    kept = present + [track for track, row in zip(missed, gaps, strict=True) if not (row < REACH * frame[0]).any()]
    return [(track, as_lane(track, frame[1])) for track in sorted(kept, key=lambda track: track.identity)]


def row_positions(height: int) -> NDArray[np.float64]:
    """(ROWS,) y in pixels, from the bottom of a frame to its top."""
    return np.linspace(height, 0, ROWS)


def on_rows(lane: Lane, height: int) -> Xs:
    """A lane in pixels of a frame of this height -> its x on the common rows."""
    return lane.x_at(row_positions(height), margin=0.5 * height / (ROWS - 1))


def as_lane(track: Track, height: int) -> Lane:
    """A track -> a lane in pixels of a frame of this height."""
    there = np.isfinite(track.xs)
    return Lane(np.stack([track.xs[there], row_positions(height)[there]], axis=1), track.score)


def distances(first: Sequence[Xs], second: Sequence[Xs]) -> NDArray[np.float64]:
    """N and M lanes -> (N, M) mean |dx| in pixels over their common rows; inf with too few of them."""
    if not first or not second:
        return np.zeros((len(first), len(second)))
    a, b = np.stack(first)[:, None], np.stack(second)[None]  # (N, 1, ROWS), (1, M, ROWS)
    gaps = np.abs(a - b)
    common = np.isfinite(gaps).sum(axis=2)
    needed = COMMON * np.minimum(np.isfinite(a).sum(axis=2), np.isfinite(b).sum(axis=2))
    total = np.nan_to_num(gaps).sum(axis=2)
    return np.where(common >= np.maximum(needed, 1), total / np.maximum(common, 1), np.inf)


def match(costs: NDArray[np.float64], limit: float) -> dict[int, int]:
    """(N, M) distances -> {n: m}, one to one, below `limit`, the most pairs and then the least total distance."""
    capped = np.where(costs < limit, costs / limit, costs.size + 1.0)
    rows, columns = linear_sum_assignment(capped)
    return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if costs[row, column] < limit}


def smoothed(before: Xs, now: Xs) -> Xs:
    """The lane where it is now, drawn towards where it was on the rows it had then."""
    return np.where(np.isfinite(before) & np.isfinite(now), NEWEST * now + (1 - NEWEST) * before, now)
