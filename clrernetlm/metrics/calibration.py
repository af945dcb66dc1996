"""Measures the calibration of scores: the share of right lanes among those of a score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Float64Array
from clrernetlm.metrics.sweep import ScoredIous

BINS = 10


def reliability(scores: ArrayLike, right: ArrayLike, bins: int = BINS) -> dict[str, Any]:
    """Compute the reliability diagram and expected calibration error of scores (N,) in [0, 1], given `right` (N,) bool.

    Returns plain values for JSON. A bin, all of equal width, holds from, to, count, mean score and share right (None if
    it is empty). The error is their mean distance over all lanes; None without lanes. Source: Naeini et al., 2015.
    """
    values, hits = np.asarray(scores, np.float64), np.asarray(right, bool)
    bin_of = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    score_sums = np.bincount(bin_of, values, minlength=bins)
    hit_sums = np.bincount(bin_of, hits, minlength=bins)
    error = float(np.abs(score_sums - hit_sums).sum() / len(values)) if len(values) else None
    rows = [
        {
            "from": number / bins,
            "to": (number + 1) / bins,
            "count": int(count),
            "score": float(score / count) if count else None,
            "right": float(hit / count) if count else None,
        }
        for number, (count, score, hit) in enumerate(zip(counts, score_sums, hit_sums, strict=True))
    ]
    return {"lanes": len(values), "expected_calibration_error": error, "bins": rows}


@dataclass
class ScoreLog:
    """Records the score of every predicted lane, and its highest IoU with a label, image by image."""

    scores: list[Float64Array] = field(default_factory=list)
    ious: list[Float64Array] = field(default_factory=list)

    def record(self, images: Iterable[ScoredIous]) -> Iterator[ScoredIous]:
        """Record images while yielding them unchanged, one at a time."""
        for scores, ious in images:
            self.scores.append(scores)
            self.ious.append(ious.max(axis=1, initial=0.0))
            yield scores, ious

    def reliability(self, iou_threshold: float = 0.5, bins: int = BINS) -> dict[str, Any]:
        """Compute `reliability` of the scores as probabilities of an IoU above the threshold with some label."""
        ious = np.concatenate([np.zeros(0), *self.ious])
        return {
            "iou_threshold": iou_threshold,
            **reliability(np.concatenate([np.zeros(0), *self.scores]), ious > iou_threshold, bins),
        }
