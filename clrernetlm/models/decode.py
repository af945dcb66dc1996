"""Exports the names of `clrernetlm.models.clrernet.decode` under the module's former name."""

from clrernetlm.models.clrernet.decode import (
    CULANE_CROP,
    decode_lanes,
    lane_nms,
    lanes_from_predictions,
    prediction_points,
)

__all__ = [
    "CULANE_CROP",
    "decode_lanes",
    "lane_nms",
    "lanes_from_predictions",
    "prediction_points",
]
