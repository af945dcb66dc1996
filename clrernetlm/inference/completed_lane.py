"""The result of clicks: a lane, the detector's lane that it refines, and whether it is probably one."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.lane import Lane
from clrernetlm.core.viewport import FrameSize, Viewport
from clrernetlm.models.lanelm.postprocess import keypoints
from clrernetlm.models.lanelm.requests import Requests

Ends = Literal["none", "top", "bottom", "both"]


@dataclass(frozen=True)
class CompletedLane(Lane):
    """A lane through clicks, in pixels of the original frame."""

    refined: Lane | None = None  # the detector's lane near the clicks that it was made from
    is_confident: bool = True  # the score reaches the threshold of `lanelm.decode.lane_threshold`


def completed_lane(
    lane: Lane, refined: Lane | None, threshold: float, clicks: Float64Array, ends: Ends
) -> CompletedLane:
    """Describe a lane through clicks (K, 2), in frame pixels, which end it at the top, at the bottom, or both."""
    y = clicks[:, 1]
    if ends != "none" and len(lane) > 1:
        lane = lane.between(
            y.min() if ends in ("top", "both") else -np.inf, y.max() if ends in ("bottom", "both") else np.inf
        )
    values = {item.name: getattr(lane, item.name) for item in fields(Lane) if item.name != "visible"}
    return CompletedLane(**values, refined=refined, is_confident=lane.score >= threshold)


def refined_detection(requests: Requests, request: int, viewport: Viewport, frame: FrameSize) -> Lane | None:
    """Return the detector's lane, in frame pixels, that a request of the first image is about; None without one."""
    rows = requests.proposal_mask[0, request].cpu().numpy()
    if not rows.any():
        return None
    points = keypoints(requests.proposal_x[0, request].cpu().numpy(), rows, viewport)
    return Lane(np.asarray(viewport.to_frame(points, frame), np.float64), float(requests.score[0, request]))
