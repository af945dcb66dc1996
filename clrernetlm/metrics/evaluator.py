"""Evaluates the prediction files of a data set: counts of hits, on all cores, in one pass and bounded memory."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from clrernetlm.core.argument_checks import require_number, require_path, require_sequence
from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, replacing
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane_files import lane_file_path
from clrernetlm.core.overwrite_rules import begins_with, check_output, read_beginning
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.distributed.sharding import Shard
from clrernetlm.metrics.categories import FOLDERS, folder_categories, read_categories
from clrernetlm.metrics.culane_metric import MetricImplementation, check_settings, ious_of_points, match_lanes
from clrernetlm.metrics.f1_counts import MF1_THRESHOLDS, EvaluationResult, Tally
from clrernetlm.metrics.frame_scale import (
    CANVAS_WIDTH,
    FRAME_TOLERANCE,
    ImageSize,
    canvas_size,
    frame_scale,
    listed_frame_size,
    require_labels_fit,
)

CategorisedImage = tuple[str, tuple[str, ...]]  # path of an image, names of its categories
IMAGES_PER_CHUNK = 64  # images per task of a worker


@dataclass(frozen=True)
class EvaluationJob:
    """Settings of an evaluation, for its workers."""

    pred_dir: PathLike
    gt_dir: PathLike
    implementation: MetricImplementation
    width: int
    image_size: ImageSize
    thresholds: tuple[float, ...]  # requested ones
    per_image: bool

    @property
    def oversize_limit(self) -> Float64Array:
        """Return x and y that labels hardly ever exceed unless their frame is larger than the canvas."""
        return FRAME_TOLERANCE * np.array(self.image_size or (np.inf, np.inf))

    @property
    def counted_thresholds(self) -> tuple[float, ...]:
        """Return the thresholds at which hits are counted: the requested ones and those of mF1."""
        return tuple(sorted({*self.thresholds, *MF1_THRESHOLDS}))


@dataclass
class ChunkResult:
    """Counts of a chunk of images, in total and by category."""

    total: Tally
    categories: dict[str, Tally]
    lines: list[str]  # JSON, one per image, if requested
    missing: int  # prediction files that do not exist


def evaluate(
    pred_dir: PathLike,
    gt_dir: PathLike,
    list_file: PathLike,
    *,
    categories: PathLike | None = None,
    implementation: MetricImplementation = "clrernet",
    width: int = 30,
    image_size: ImageSize = (1640, 590),
    thresholds: Sequence[float] = (0.1, 0.5, 0.75),
    workers: int = 0,
    per_image: PathLike | None = None,
    progress: bool = False,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> EvaluationResult:
    """Compare `<pred_dir>/<image>.lines.txt` with `<gt_dir>/<image>.lines.txt` for every image of a list.

    `list_file`: one image per line, first column, with or without leading `/`. `categories`: a folder of such lists
    (`test0_normal.txt`, ...), of which the images in `list_file` are counted; or `folders`, for the top-level folders
    of the images. `width`: pixels of `image_size` (width, height), in which coordinates are taken unchanged; with None
    every frame is scaled to a width of 1640 pixels, and the images must lie beside their labels. `workers`: processes,
    0 = one per core. `per_image`: a JSON-lines file for the counts, hits and IoUs of every image, in the order of the
    list. `shard`: the part of the list to evaluate; the results of all shards add up to that of the list. `overwrite`
    allows replacing a `per_image` file of an earlier run.

    A missing prediction file means no lanes, and is counted in the result. Raises UserError if all are missing, for a
    missing label file, for a malformed file (naming the line), for labels beyond `image_size`, for an empty list and
    for settings out of range.
    """
    check_settings(implementation, width, (CANVAS_WIDTH, 1) if image_size is None else image_size)
    _check_thresholds(thresholds)
    _check_paths(pred_dir, gt_dir, list_file, categories=categories, per_image=per_image)
    workers = worker_count(workers)
    if per_image is not None:
        check_output(per_image, "a per-image file", is_per_image, parameter="per_image", overwrite=overwrite)
    job = EvaluationJob(pred_dir, gt_dir, implementation, width, image_size, tuple(thresholds), per_image is not None)
    names = _categories(categories, list_file, gt_dir)
    total = Tally(job.counted_thresholds)
    by_category = {name: Tally(job.counted_thresholds) for name in names}
    entries = _entries(list_file, names, gt_dir)
    results = _run(job, _chunks(entries if shard is None else shard.pick(entries)), workers)
    with replacing(per_image) if per_image is not None else nullcontext() as temporary:
        with open(temporary or os.devnull, "w", encoding="utf-8") as lines:
            missing = 0
            for result in _with_progress_bar(results) if progress else results:
                total.add(result.total)
                missing += result.missing
                for name, tally in result.categories.items():
                    by_category[name].add(tally)
                lines.writelines(result.lines)
        if total.images == 0 and next(read_images(list_file), None) is None:
            raise UserError(f"{list_file}: no images; expected one image path a line")
        if shard is None and missing == total.images:
            example = lane_file_path(pred_dir, next(read_images(list_file, gt_dir)))
            raise UserError(
                f"{pred_dir}: 0 of {total.images:,} prediction files found, among them {example}; check the folder and "
                f"the paths in {list_file}"
            )
    # JSON keeps the name "semantics" of earlier versions.
    settings = {"semantics": implementation, "width": width, "image_size": image_size and list(image_size)}
    return EvaluationResult(job.thresholds, total, by_category, settings, missing)


def _check_thresholds(thresholds: Sequence[float]) -> None:
    require_sequence(thresholds, "thresholds", "IoU thresholds")
    for threshold in thresholds:
        require_number(threshold, "thresholds", 0, math.nextafter(1, 0))
    if not len(thresholds):
        raise UserError("thresholds: none given; use numbers from 0 to less than 1, such as 0.5")


def _check_paths(pred_dir: PathLike, gt_dir: PathLike, list_file: PathLike, **optional: PathLike | None) -> None:
    for path, name in ((pred_dir, "pred_dir"), (gt_dir, "gt_dir"), (list_file, "list_file")):
        require_path(path, name)
    for name, other in optional.items():
        if other is not None:
            require_path(other, name)
    for folder, name in ((pred_dir, "predictions"), (gt_dir, "labels")):
        if not os.path.isdir(folder):
            raise UserError(f"{folder}: no such folder of {name}; check the path")


def _categories(categories: PathLike | None, list_file: PathLike, root: PathLike) -> dict[str, list[str]]:
    if categories is None:
        return {}
    if os.fspath(categories) == FOLDERS:
        return folder_categories(list_file, root)
    return read_categories(categories, root)


def _entries(list_file: PathLike, categories: dict[str, list[str]], root: PathLike) -> Iterator[CategorisedImage]:
    members: dict[str, tuple[str, ...]] = {}
    for name, images in categories.items():
        for image in images:
            members[image] = (*members.get(image, ()), name)
    for image in read_images(list_file, root):
        yield image, members.get(image, ())


def _chunks(entries: Iterable[CategorisedImage]) -> Iterator[list[CategorisedImage]]:
    iterator = iter(entries)
    while chunk := list(islice(iterator, IMAGES_PER_CHUNK)):
        yield chunk


def _run(job: EvaluationJob, chunks: Iterator[list[CategorisedImage]], workers: int) -> Iterator[ChunkResult]:
    """Evaluate the chunks in order, with few of them in memory at any time."""
    first = list(islice(chunks, 2))
    if workers == 1 or len(first) < 2:  # starting processes would take longer
        for chunk in (*first, *chunks):
            yield evaluate_chunk(job, chunk)
        return
    yield evaluate_chunk(job, first[0])  # compiles the kernels once, before the workers need them
    yield from map_in_processes(partial(evaluate_chunk, job), chain(first[1:], chunks), workers)


def is_per_image(path: Path) -> bool:
    """Check whether a file is a per-image file of `evaluate`."""
    return begins_with('{"path": "/')(path) and b'"tp": {' in read_beginning(path)


def _with_progress_bar(results: Iterator[ChunkResult]) -> Iterable[ChunkResult]:
    # Imported here: rich takes a moment, and most callers want no bar.
    from clrernetlm.core.progress import progress_bar

    return progress_bar(results, "Evaluating", size=lambda result: result.total.images)


def evaluate_chunk(job: EvaluationJob, entries: list[CategorisedImage]) -> ChunkResult:
    """Count the hits of a chunk of images (image, categories); runs in a worker."""
    counted_thresholds = job.counted_thresholds
    matches: dict[str, list[Float64Array]] = {"": []}
    sizes: dict[str, list[int]] = {"": [0, 0, 0]}  # predictions, labels, images
    lines, missing = [], 0
    for image, categories in entries:
        ious = image_ious(job, image)
        missing += ious.shape[0] == 0 and not os.path.exists(lane_file_path(job.pred_dir, image))
        rows, columns = match_lanes(ious, job.implementation)
        matched = ious[rows, columns]
        for name in ("", *categories):
            matches.setdefault(name, []).append(matched)
            size = sizes.setdefault(name, [0, 0, 0])
            size[0] += ious.shape[0]
            size[1] += ious.shape[1]
            size[2] += 1
        if job.per_image:
            lines.append(json.dumps(_image_line(image, ious, rows, matched, job.thresholds)) + "\n")
    tallies = {}
    for name, found in matches.items():
        tallies[name] = Tally(counted_thresholds)
        tallies[name].count(np.concatenate([np.zeros(0), *found]), *sizes[name])
    return ChunkResult(tallies.pop(""), tallies, lines, missing)


def image_ious(job: EvaluationJob, image: str) -> Float64Array:
    """Compute the (n_pred, n_gt) IoU of one image's files."""
    from clrernetlm.core.fast_lane_reader import read_lane_points

    label_file = lane_file_path(job.gt_dir, image)
    predicted, stops = read_lane_points(lane_file_path(job.pred_dir, image), missing_is_empty=True)
    labelled, label_stops = read_lane_points(label_file)
    points = np.concatenate((predicted, labelled))
    stops = np.concatenate((stops, label_stops[1:] + len(predicted)))
    predictions = len(stops) - len(label_stops)
    size = job.image_size
    if size is not None and (labelled > job.oversize_limit).any():  # rare, so that the exact check may be slow
        lanes = np.split(labelled, label_stops[1:-1])
        require_labels_fit(size, job.gt_dir, image, lanes)
    if size is None:
        frame = listed_frame_size(job.gt_dir, image)
        points, size = points * frame_scale(None, frame), canvas_size(None, frame)
    return ious_of_points(points, stops, predictions, job.implementation, job.width, size)


def _image_line(
    image: str, ious: Float64Array, rows: Any, matched: Float64Array, thresholds: tuple[float, ...]
) -> dict[str, Any]:
    line: dict[str, Any] = {"path": "/" + image, "tp": {}, "fp": {}, "fn": {}, "hits": {}}
    for threshold in thresholds:
        hits = np.zeros(ious.shape[0], bool)
        hits[rows] = matched > threshold
        tp, key = int(hits.sum()), f"{threshold:g}"
        line["tp"][key], line["fp"][key], line["fn"][key] = tp, ious.shape[0] - tp, ious.shape[1] - tp
        line["hits"][key] = hits.astype(int).tolist()
    return {**line, "ious": ious.tolist()}
