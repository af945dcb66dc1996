"""Gathers the results of all processes of an evaluation in the first one: counts, logs and files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane_files import lane_file_path
from clrernetlm.core.overwrite_rules import ResultFolder
from clrernetlm.distributed.process_group import ProcessGroup
from clrernetlm.metrics.attribute_scores import AttributeCounts
from clrernetlm.metrics.f1_counts import EvaluationResult
from clrernetlm.metrics.prediction_files import lane_file_name
from clrernetlm.metrics.sweep import Sweep

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Log = TypeVar("Log", bound="DataclassInstance")
Counts = TypeVar("Counts", Sweep, AttributeCounts)


def gather_result(group: ProcessGroup, result: EvaluationResult) -> EvaluationResult:
    """Add up the counts of all shards; other processes than the first return their own."""
    for other in group.gather(result)[1:]:
        result.add(other)
    return result


def gather_sum(group: ProcessGroup, counts: Counts) -> Counts:
    """Add up the counts of all shards, such as confidence sweeps; other processes than the first return their own."""
    for other in group.gather(counts)[1:]:
        counts = counts + other
    return counts


def gather_log(group: ProcessGroup, log: Log) -> Log:
    """Join dataclasses of lists with one entry per image, in the order of the image list.

    Sums over the entries then round as in one process.
    """
    return replace(log, **{item.name: list(group.in_list_order(getattr(log, item.name))) for item in fields(log)})


def gather_lines(group: ProcessGroup, shard_file: Path, replaced: Callable[[], AbstractContextManager[Path]]) -> None:
    """Merge files of the shards, one line per image, into one file in the first process, in the order of the list.

    `replaced` returns the context manager of the path to write to, as `files.replacing` does.
    """
    with open(shard_file, encoding="utf-8") as rows:
        lines = group.in_list_order(rows)
        if not group.is_main:
            _use_up(lines)
            return
        with replaced() as temporary, open(temporary, "w", encoding="utf-8") as merged:
            merged.writelines(lines)


def gather_lane_files(
    group: ProcessGroup, list_file: Path, root: PathLike, shard_folder: Path, results: ResultFolder, source: str
) -> None:
    """Write the `.lines.txt` files of all shards to `results`, made from `source`, in the first process."""

    def texts() -> Iterator[tuple[str, bytes]]:
        for image in group.shard.pick(read_images(list_file, root)):
            yield image, Path(lane_file_path(shard_folder, image)).read_bytes()

    for image, text in group.in_list_order(texts()):
        results.write_bytes(lane_file_name(image), text, source)


def _use_up(items: Iterator[Any]) -> None:
    for _ in items:
        pass
