"""Shows progress bars on standard error: only in a terminal, and only until the work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import length_hint
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

Item = TypeVar("Item")


def progress_bar(
    items: Iterable[Item],
    label: str,
    total: int | None = None,
    *,
    enabled: bool = True,
    size: Callable[[Item], int] | None = None,
) -> Iterable[Item]:
    """Yield the items with a labelled progress bar; without a terminal, or if not `enabled`, there is no bar.

    `size`: how much an item counts, such as the number of images of a chunk; default: 1. `total`: the sum of the sizes;
    default: the number of items, if that is known and there is no `size`.
    """
    if not (enabled and Console(stderr=True).is_terminal):
        return items
    if total is None and size is None:
        total = length_hint(items) or None
    return _with_bar(items, label, total, size)


def _with_bar(
    items: Iterable[Item], label: str, total: int | None, size: Callable[[Item], int] | None
) -> Iterator[Item]:
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(elapsed_when_finished=True),
    ]
    if total is None:
        columns.insert(2, MofNCompleteColumn())
    with progress_display(*columns) as display:
        task = display.add_task(escape(label), total=total)
        for item in items:
            yield item
            display.advance(task, 1 if size is None else size(item))


def progress_display(*columns: ProgressColumn | str) -> Progress:
    """Make a progress display of rich's columns for work that is not a loop; without a terminal it shows nothing."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
