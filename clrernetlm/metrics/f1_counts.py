"""Counts true and false positives, and computes precision, recall and F1."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from clrernetlm.core.arrays import Int64Array
from clrernetlm.core.overwrite_rules import begins_with

MF1_THRESHOLDS = tuple(i / 100 for i in range(50, 100, 5))  # .5, .55, ... .95
# First characters of the JSON documents of `evaluate` and `test`.
is_scores = begins_with('{"thresholds":[', '{"detector":{"thresholds":[')
EPSILON = 1e-8  # of the published tools: figures stay comparable to the last digit


def scores(tp: int, fp: int, fn: int) -> dict[str, Any]:
    """Compute precision, recall and F1 in [0, 1] from tp, fp, fn; 0 for empty counts."""
    precision = tp / (tp + fp + EPSILON)
    recall = tp / (tp + fn + EPSILON)
    f1 = 2 * precision * recall / (precision + recall + EPSILON)
    return {"tp": tp, "fp": fp, "fn": fn, "precision": precision, "recall": recall, "f1": f1}


@dataclass
class Tally:
    """Sums over images: `hits` (T,) true positives per threshold, and the numbers of predictions, labels and images."""

    thresholds: tuple[float, ...]
    hits: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    predictions: int = 0
    labels: int = 0
    images: int = 0

    def __post_init__(self) -> None:
        if len(self.hits) != len(self.thresholds):
            self.hits = np.zeros(len(self.thresholds), np.int64)

    def count(self, matched: ArrayLike, predictions: int, labels: int, images: int = 1) -> None:
        """Add images, given the IoU of their matched pairs (M,); a pair is a hit at every threshold below its IoU."""
        self.hits += (np.asarray(matched, np.float64)[:, None] > self.thresholds).sum(axis=0)
        self.predictions += predictions
        self.labels += labels
        self.images += images

    def add(self, other: Tally) -> None:
        """Add another tally with the same thresholds."""
        self.hits += other.hits
        self.predictions += other.predictions
        self.labels += other.labels
        self.images += other.images

    def at(self, threshold: float) -> dict[str, Any]:
        """Compute tp, fp, fn, precision, recall, f1 at one of the thresholds."""
        tp = int(self.hits[self.thresholds.index(threshold)])
        return scores(tp, self.predictions - tp, self.labels - tp)

    def mean_f1(self) -> float:
        """Compute mF1, the mean F1 over the IoU thresholds .5, .55, ... .95."""
        return float(np.mean([self.at(threshold)["f1"] for threshold in MF1_THRESHOLDS]))


@dataclass
class EvaluationResult:
    """The result of `evaluate`; `thresholds` are the requested ones, the tallies also hold those of mF1."""

    thresholds: tuple[float, ...]
    total: Tally
    categories: dict[str, Tally]
    settings: dict[str, Any] = field(default_factory=dict)  # semantics (the implementation), width, image_size
    missing: int = 0  # images without a prediction file, which are counted as images without predicted lanes

    def add(self, other: EvaluationResult) -> None:
        """Add the result of other images with the same settings."""
        self.total.add(other.total)
        self.missing += other.missing
        for name, tally in other.categories.items():
            self.categories[name].add(tally)

    def f1(self, threshold: float = 0.5) -> float:
        """Compute the total F1 at a threshold."""
        return float(self.total.at(threshold)["f1"])

    def to_dict(self) -> dict[str, Any]:
        """Convert to the JSON document of `clrernetlm evaluate`."""

        def figures(tally: Tally) -> dict[str, Any]:
            return {f"{threshold:g}": tally.at(threshold) for threshold in self.thresholds}

        return {
            "thresholds": list(self.thresholds),
            "total": figures(self.total),
            "categories": {name: figures(tally) for name, tally in self.categories.items()},
            "mf1": self.total.mean_f1(),
            "images": self.total.images,
            "missing_predictions": self.missing,
            "category_images": {name: tally.images for name, tally in self.categories.items()},
            **self.settings,
        }
