"""What the shards of an evaluation add up to, in the first process: counts, logs, and the files they left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane import lane_file_path
from clrernetlm.core.output_files import ResultFolder
from clrernetlm.distributed.process_group import ProcessGroup
from clrernetlm.metrics.counts import EvaluationResult
from clrernetlm.metrics.prediction_files import lane_file_name
from clrernetlm.metrics.sweep import Sweep

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Log = TypeVar("Log", bound="DataclassInstance")


def whole_result(group: ProcessGroup, result: EvaluationResult) -> EvaluationResult:
    """The counts of all shards; in other processes than the first, those of its own."""
    for other in group.gather(result)[1:]:
        result.add(other)
    return result


def whole_sweep(group: ProcessGroup, sweep: Sweep) -> Sweep:
    """The same for a sweep."""
    for other in group.gather(sweep)[1:]:
        sweep = sweep + other
    return sweep


def whole_log(group: ProcessGroup, log: Log) -> Log:
    """A dataclass of lists, an entry per image: those of all shards in the order of the list.

    Sums over them then round as in one process.
    """
    return replace(log, **{item.name: list(group.in_list_order(getattr(log, item.name))) for item in fields(log)})


def bring_lines(group: ProcessGroup, shard_file: Path, replaced: Callable[[], AbstractContextManager[Path]]) -> None:
    """Files of the shards with a line per image -> one file in the first process, in the order of the list.

    `replaced` makes the block that gives the path to write to, as `files.replacing` does.
    """
    with open(shard_file, encoding="utf-8") as rows:
        lines = group.in_list_order(rows)
        if not group.is_main:
            _use_up(lines)
            return
        with replaced() as temporary, open(temporary, "w", encoding="utf-8") as merged:
            merged.writelines(lines)


def bring_lane_files(
    group: ProcessGroup, list_file: Path, root: PathLike, shard_folder: Path, results: ResultFolder, source: str
) -> None:
    """The `.lines.txt` files of the shards -> the results of `source` in the first process."""

    def texts() -> Iterator[tuple[str, bytes]]:
        for image in group.shard.pick(read_images(list_file, root)):
            yield image, Path(lane_file_path(shard_folder, image)).read_bytes()

    for image, text in group.in_list_order(texts()):
        results.write_bytes(lane_file_name(image), text, source)


def _use_up(items: Iterator[Any]) -> None:
    for _ in items:
        pass
