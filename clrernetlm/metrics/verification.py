"""How well a score tells true proposals from false ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import BoolArray, Float64Array
from clrernetlm.metrics.culane_metric import Semantics, match_lanes

LOSSES = tuple(i / 100 for i in range(101))  # shares of the true ones that a point of the curve may lose
ALLOWED_LOSS = 0.03


def true_proposals(ious: Float64Array, semantics: Semantics = "clrernet", threshold: float = 0.5) -> BoolArray:
    """(P, G) IoU of proposals and labels -> (P,) which are a lane: matched one to one, above the threshold."""
    true = np.zeros(len(ious), bool)
    if ious.size:
        rows, columns = match_lanes(ious, semantics)
        true[rows] = ious[rows, columns] > threshold
    return true


def rejection(scores: ArrayLike, true: ArrayLike, threshold: float) -> dict[str, float | None]:
    """Shares of false proposals rejected and of true ones lost when a score below the threshold rejects.

    (N,) scores, (N,) bool. None for a share of nothing.
    """
    below, is_true = np.asarray(scores) < threshold, np.asarray(true, bool)
    return {
        "threshold": float(threshold),
        "false_rejected": _share(below[~is_true]),
        "true_lost": _share(below[is_true]),
    }


def rejection_curve(scores: ArrayLike, true: ArrayLike) -> dict[str, Any]:
    """(N,) scores, (N,) bool -> JSON: the most false ones a threshold rejects at each allowed loss of true ones.

    `curve` has a point (allowed loss, threshold, false_rejected, true_lost) per percent, `best` is the one at 3 %;
    empty and None when there are no true or no false proposals.
    """
    values, is_true = np.asarray(scores, np.float64), np.asarray(true, bool)
    lanes, others = np.sort(values[is_true]), np.sort(values[~is_true])
    if not len(lanes) or not len(others):
        return {"curve": [], "best": None}
    # Everything below a threshold goes. Between two scores all thresholds do the same: the scores themselves are tried,
    # and one above all of them.
    thresholds = np.append(np.unique(values), np.nextafter(values.max(), np.inf))
    lost = np.searchsorted(lanes, thresholds, side="left") / len(lanes)
    rejected = np.searchsorted(others, thresholds, side="left") / len(others)
    best = np.searchsorted(lost, np.array(LOSSES) + 1e-12, side="right") - 1  # both shares rise with the threshold
    curve = [
        {
            "allowed": allowed,
            "threshold": float(thresholds[i]),
            "false_rejected": float(rejected[i]),
            "true_lost": float(lost[i]),
        }
        for allowed, i in zip(LOSSES, best, strict=True)
    ]
    return {"curve": curve, "best": curve[LOSSES.index(ALLOWED_LOSS)]}


def verification(
    detector: ArrayLike, lanelm: ArrayLike, true: ArrayLike, detector_threshold: float, lanelm_threshold: float
) -> dict[str, Any]:
    """(N,) scores of proposals by the detector and by LaneLM, (N,) which are true -> JSON of counts and both scores.

    Per score: what its own threshold rejects (`configured`), and its `rejection_curve`.
    """
    is_true = np.asarray(true, bool)
    judges = {"detector": (detector, detector_threshold), "lanelm": (lanelm, lanelm_threshold)}
    return {
        "true": int(is_true.sum()),
        "false": int((~is_true).sum()),
        **{
            name: {"configured": rejection(scores, is_true, threshold), **rejection_curve(scores, is_true)}
            for name, (scores, threshold) in judges.items()
        },
    }


def _share(chosen: BoolArray) -> float | None:
    return float(chosen.mean()) if len(chosen) else None
