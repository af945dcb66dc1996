"""Sweeps the confidence threshold: F1 at every threshold, the best one, and the precision-recall curve."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from clrernetlm.core.argument_checks import require_number, require_sequence
from clrernetlm.core.arrays import Float64Array, Int64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane_files import lane_file_path, read_lines
from clrernetlm.distributed.sharding import Shard
from clrernetlm.metrics.culane_metric import MetricImplementation, check_settings, lane_ious, match_lanes
from clrernetlm.metrics.f1_counts import scores as scores_of
from clrernetlm.metrics.frame_scale import (
    CANVAS_WIDTH,
    ImageSize,
    canvas_size,
    frame_scale,
    listed_frame_size,
    require_labels_fit,
)
from clrernetlm.metrics.prediction_files import read_predictions

ScoredIous = tuple[Float64Array, Float64Array]  # (n_pred,) scores, (n_pred, n_gt) IoU
CONFIDENCES = tuple(i / 100 for i in range(1, 100))


@dataclass(frozen=True)
class Sweep:
    """Counts at each confidence threshold (C,); a prediction counts when its score is at least the threshold."""

    iou_threshold: float
    confidences: tuple[float, ...]
    tp: Int64Array
    fp: Int64Array
    fn: Int64Array

    def __add__(self, other: Sweep) -> Sweep:
        """Add the counts of a sweep of other images with the same settings."""
        return replace(self, tp=self.tp + other.tp, fp=self.fp + other.fp, fn=self.fn + other.fn)

    def points(self) -> list[dict[str, Any]]:
        """Compute confidence, tp, fp, fn, precision, recall, f1 per confidence threshold: both curves."""
        return [
            {"confidence": confidence, **scores_of(int(tp), int(fp), int(fn))}
            for confidence, tp, fp, fn in zip(self.confidences, self.tp, self.fp, self.fn, strict=True)
        ]

    def best(self) -> dict[str, Any]:
        """Find the point with the highest F1; of equal ones that with the lowest confidence."""
        return max(self.points(), key=lambda point: point["f1"])

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON: the IoU threshold, the best point and all points."""
        return {"iou_threshold": self.iou_threshold, "best": self.best(), "points": self.points()}


def sweep_confidence(
    images: Iterable[ScoredIous],
    iou_threshold: float = 0.5,
    confidences: Sequence[float] = CONFIDENCES,
    implementation: MetricImplementation = "clrernet",
) -> Sweep:
    """Count hits at every confidence threshold, from streamed (n_pred,) scores and (n_pred, n_gt) IoU per image.

    Exact: at every threshold the remaining predictions are matched anew, as in an evaluation of their files. The counts
    of an image only change where a prediction drops out, so that it is matched at most n_pred times, for any grid.
    """
    require_sequence(confidences, "confidences", "confidence thresholds")
    for confidence in confidences:
        require_number(confidence, "confidences")
    grid = np.asarray(sorted(confidences), np.float64)
    tp = np.zeros(len(grid), np.int64)
    predictions = np.zeros(len(grid), np.int64)
    labels = 0
    for scores, ious in images:
        labels += ious.shape[1]
        # At threshold i the predictions from rank first[i] on remain, ranked by ascending score.
        ranked = np.sort(scores)
        first = np.searchsorted(ranked, grid, side="left")
        predictions += len(scores) - first
        hits = np.zeros(len(scores) + 1, np.int64)
        for rank in np.unique(first):
            if rank < len(scores) and ious.shape[1]:
                kept = ious[scores >= ranked[rank]]
                hits[rank] = np.count_nonzero(kept[match_lanes(kept, implementation)] > iou_threshold)
        tp += hits[first]
    return Sweep(iou_threshold, tuple(grid.tolist()), tp, predictions - tp, labels - tp)


def scored_ious(
    predictions_file: PathLike,
    gt_dir: PathLike,
    list_file: PathLike | None = None,
    implementation: MetricImplementation = "clrernet",
    width: int = 30,
    image_size: ImageSize = (1640, 590),
    shard: Shard | None = None,
) -> Iterator[ScoredIous]:
    """Compute scores and IoUs of the images of a predictions file, one by one, against `<gt_dir>/<image>.lines.txt`.

    With `list_file` only its images are yielded, each once, those without a prediction as images without predicted
    lanes. `image_size`, and `shard` of that list, as in `evaluate`. Raises UserError for a malformed or missing file,
    for one that has no image of the whole list, and for labels beyond `image_size`.
    """
    check_settings(implementation, width, (CANVAS_WIDTH, 1) if image_size is None else image_size)
    missing: set[str] | None = None
    if list_file is not None:
        missing = _first_listed(list_file, gt_dir, shard or Shard())
    matched = 0
    for prediction in read_predictions(predictions_file):
        if missing is not None:
            if prediction.path not in missing:
                continue
            missing.remove(prediction.path)
        matched += 1
        labels = read_lines(lane_file_path(gt_dir, prediction.path))
        # Lanes that the implementation leaves out must not have a score, either.
        lanes = [lane for lane in prediction.lanes if implementation == "official" or len(lane) >= 2]
        require_labels_fit(image_size, gt_dir, prediction.path, labels)
        found, size = [lane.points for lane in lanes], image_size
        if size is None:
            frame = listed_frame_size(gt_dir, prediction.path)
            scale, size = frame_scale(None, frame), canvas_size(None, frame)
            found, labels = [points * scale for points in found], [points * scale for points in labels]
        ious = lane_ious(found, labels, implementation, width, size)
        yield np.array([lane.score for lane in lanes], np.float64), ious
    if missing and not matched and shard is None:
        raise UserError(
            f"{predictions_file}: has none of the {len(missing):,} images of {list_file}, such as /{min(missing)}; "
            "check both"
        )
    for image in sorted(missing or ()):
        # Without predictions only the shape matters, which does not depend on the canvas.
        labels = read_lines(lane_file_path(gt_dir, image))
        yield np.zeros(0), lane_ious([], labels, implementation, width, image_size or (CANVAS_WIDTH, 1))


def _first_listed(list_file: PathLike, root: PathLike, shard: Shard) -> set[str]:
    """Find the images of a shard; an image that is listed twice is in the shard of its first line."""
    numbers: dict[str, int] = {}
    for number, image in enumerate(read_images(list_file, root)):
        numbers.setdefault(image, number)
    return {image for image, number in numbers.items() if shard.holds(number)}
