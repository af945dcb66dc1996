"""Measures how well a score separates true proposals from false ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BoolArray, Float64Array
from clrernetlm.metrics.culane_metric import MetricImplementation, match_lanes

ALLOWED_LOSSES = tuple(i / 100 for i in range(101))  # shares of true proposals that may be lost, one per curve point
BEST_ALLOWED_LOSS = 0.03  # of the point that is reported as the best


def true_proposals(
    ious: Float64Array, implementation: MetricImplementation = "clrernet", threshold: float = 0.5
) -> BoolArray:
    """Find proposals that are lanes: matched one to one with an IoU above the threshold; (P, G) IoU -> (P,) bool."""
    true = np.zeros(len(ious), bool)
    if ious.size:
        rows, columns = match_lanes(ious, implementation)
        true[rows] = ious[rows, columns] > threshold
    return true


def rejection_rates(scores: ArrayLike, true: ArrayLike, threshold: float) -> dict[str, float | None]:
    """Compute the shares of false proposals rejected and of true ones lost by rejecting scores below the threshold.

    (N,) scores, (N,) bool. None without false or true proposals.
    """
    below, is_true = np.asarray(scores) < threshold, np.asarray(true, bool)
    return {
        "threshold": float(threshold),
        "false_rejected": _share(below[~is_true]),
        "true_lost": _share(below[is_true]),
    }


def rejection_curve(scores: ArrayLike, true: ArrayLike) -> dict[str, Any]:
    """Compute, for JSON, the largest share of false proposals rejected at each allowed loss of true ones.

    (N,) scores, (N,) bool. `curve` has a point (allowed loss, threshold, false_rejected, true_lost) per percent, `best`
    is the one at 3 %; empty and None if there are no true or no false proposals.
    """
    values, is_true = np.asarray(scores, np.float64), np.asarray(true, bool)
    lanes, others = np.sort(values[is_true]), np.sort(values[~is_true])
    if not len(lanes) or not len(others):
        return {"curve": [], "best": None}
    # Scores below a threshold are rejected. All thresholds between two scores are equivalent, so only the scores and
    # one threshold above all of them are tried.
    thresholds = np.append(np.unique(values), np.nextafter(values.max(), np.inf))
    lost = np.searchsorted(lanes, thresholds, side="left") / len(lanes)
    rejected = np.searchsorted(others, thresholds, side="left") / len(others)
    best = (
        np.searchsorted(lost, np.array(ALLOWED_LOSSES) + 1e-12, side="right") - 1
    )  # both shares rise with the threshold
    curve = [
        {
            "allowed": allowed,
            "threshold": float(thresholds[i]),
            "false_rejected": float(rejected[i]),
            "true_lost": float(lost[i]),
        }
        for allowed, i in zip(ALLOWED_LOSSES, best, strict=True)
    ]
    return {"curve": curve, "best": curve[ALLOWED_LOSSES.index(BEST_ALLOWED_LOSS)]}


def verification(
    detector: ArrayLike, lanelm: ArrayLike, true: ArrayLike, detector_threshold: float, lanelm_threshold: float
) -> dict[str, Any]:
    """Compare, for JSON, the scores (N,) of proposals by the detector and by LaneLM, given which are true, (N,) bool.

    Holds the counts, and per score the shares at its own threshold (`configured`) and its `rejection_curve`.
    """
    is_true = np.asarray(true, bool)
    scorers = {"detector": (detector, detector_threshold), "lanelm": (lanelm, lanelm_threshold)}
    return {
        "true": int(is_true.sum()),
        "false": int((~is_true).sum()),
        **{
            name: {"configured": rejection_rates(scores, is_true, threshold), **rejection_curve(scores, is_true)}
            for name, (scores, threshold) in scorers.items()
        },
    }


def _share(chosen: BoolArray) -> float | None:
    return float(chosen.mean()) if len(chosen) else None
