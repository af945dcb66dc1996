"""The progress bar of everything that goes through images: on standard error, where somebody looks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track

Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, shown: bool = True) -> Iterable[Item]:
    """The same items, with a bar that says `what` is done while they are used up; none where no terminal is.

    `total`: how many there are, where their length does not say.
    """
    console = Console(stderr=True)
    hidden = not (shown and console.is_terminal)
    return track(items, escape(what), total, console=console, transient=True, disable=hidden)
