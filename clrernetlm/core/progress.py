"""Progress bars, on standard error. They are shown in a terminal only, and vanish at the end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, ProgressColumn, track

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, shown: bool = True) -> Iterable[Item]:
    """Yield the items with a progress bar labelled `what`; without a terminal there is no bar.

    `total`: number of items, if they have no length.
    """
    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    return track(items, escape(what), total, console=console, transient=True, disable=hidden)


def progress_bar(*columns: ProgressColumn | str) -> Progress:
    """Make a progress bar of rich's columns, for work that is not a loop; without a terminal it shows nothing."""
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
