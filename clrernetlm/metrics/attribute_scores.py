"""Scores type, colour, position and visibility of predicted lanes against the labels that they match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import LANE_COLOURS, LANE_TYPES
from clrernetlm.metrics.culane_metric import MetricImplementation, match_lanes

IOU_THRESHOLD = 0.5  # of lanes that match


def _zeros(*shape: int) -> Int64Array:
    return np.zeros(shape, np.int64)


@dataclass(frozen=True)
class AttributeCounts:
    """Counts of predicted attributes, over lanes that match a described label with an IoU above `IOU_THRESHOLD`.

    In `types` and `colours` rows are labelled and columns predicted names, in the order of `LANE_TYPES` and
    `LANE_COLOURS`; the last of each is `unknown`.
    """

    lanes: int = 0  # matched ones whose label has attributes
    types: Int64Array = field(default_factory=lambda: _zeros(len(LANE_TYPES), len(LANE_TYPES)))
    colours: Int64Array = field(default_factory=lambda: _zeros(len(LANE_COLOURS), len(LANE_COLOURS)))
    positions: Int64Array = field(default_factory=lambda: _zeros(2))  # wrong, right
    hidden_points: Int64Array = field(default_factory=lambda: _zeros(2, 2))  # [labelled as hidden][predicted as hidden]

    def __add__(self, other: AttributeCounts) -> AttributeCounts:
        """Add the counts of other images."""
        return AttributeCounts(
            self.lanes + other.lanes,
            self.types + other.types,
            self.colours + other.colours,
            self.positions + other.positions,
            self.hidden_points + other.hidden_points,
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON: shares of right attributes, None where no label says them, and the confusions."""
        return {
            "iou_threshold": IOU_THRESHOLD,
            "lanes": self.lanes,
            "type": _confusion(self.types, LANE_TYPES),
            "colour": _confusion(self.colours, LANE_COLOURS),
            "position": {
                "lanes": int(self.positions.sum()),
                "right": _share(int(self.positions[1]), int(self.positions.sum())),
            },
            "hidden": self._hidden_scores(),
        }

    def _hidden_scores(self) -> dict[str, Any]:
        (_, false), (missed, true) = self.hidden_points.tolist()
        return {
            "points": int(self.hidden_points.sum()),
            "hidden": missed + true,
            "precision": _share(true, true + false),
            "recall": _share(true, true + missed),
            "iou": _share(true, true + false + missed),
        }


def count_attributes(
    predictions: Sequence[Lane],
    labels: Sequence[Lane],
    ious: Float64Array,
    implementation: MetricImplementation = "clrernet",
) -> AttributeCounts:
    """Count the attributes of the lanes of one image that match, given the IoU (n_pred, n_gt) of all.

    The matching is that of the F1. Attributes that a label does not state are left out. Visibility is compared at the
    points of a label on rows between the ends of the prediction, whose nearest point counts.
    """
    rows, columns = match_lanes(ious, implementation)
    hits = ious[rows, columns] > IOU_THRESHOLD
    pairs = [(predictions[i], labels[j]) for i, j in zip(rows[hits], columns[hits], strict=True)]
    counts = AttributeCounts(len(pairs))
    for predicted, label in pairs:
        if label.type != "unknown":
            counts.types[LANE_TYPES.index(label.type), LANE_TYPES.index(predicted.type)] += 1
        if label.colour != "unknown":
            counts.colours[LANE_COLOURS.index(label.colour), LANE_COLOURS.index(predicted.colour)] += 1
        if label.position is not None:
            counts.positions[int(predicted.position == label.position)] += 1
        counts.hidden_points[:] += _hidden_points(predicted, label)
    return counts


def _hidden_points(predicted: Lane, label: Lane) -> Int64Array:
    """Count the points of a label by whether they are hidden in label and prediction, (2, 2)."""
    counts = _zeros(2, 2)
    if predicted.visible is None or label.visible is None or not len(predicted):
        return counts
    rows, predicted_rows = label.points[:, 1], predicted.points[:, 1]
    common = (rows >= predicted_rows.min()) & (rows <= predicted_rows.max())
    nearest = np.abs(rows[common, None] - predicted_rows).argmin(axis=1)
    np.add.at(counts, ((~label.visible[common]).astype(int), (~predicted.visible[nearest]).astype(int)), 1)
    return counts


def _confusion(counts: Int64Array, names: Sequence[str]) -> dict[str, Any]:
    """Convert counts (labelled, predicted) to JSON: `confusion` {labelled: {predicted: count}} without zeros."""
    return {
        "lanes": int(counts.sum()),
        "right": _share(int(np.trace(counts)), int(counts.sum())),
        "confusion": {
            name: {other: count for other, count in zip(names, row, strict=True) if count}
            for name, row in zip(names, counts.tolist(), strict=True)
            if any(row)
        },
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def names_in_order(confusion: dict[str, dict[str, int]], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """List the labelled and the predicted names of a confusion that occur, in the order of `names`."""
    labelled = [name for name in names if name in confusion]
    predicted = [name for name in names if name in confusion or any(name in row for row in confusion.values())]
    return labelled, predicted
