"""A list of images shared out over processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The part of process `rank` of `world`: every `world`-th run of `run` neighbours, each with one process only.

    The last run of a list may be shorter, and a shard may be empty. Runs of the length of a batch give all processes
    together the very batches of one process.
    """

    rank: int = 0
    world: int = 1
    run: int = 1

    def holds(self, number: int) -> bool:
        """Whether the item of this number, from 0, is in the shard."""
        return number // self.run % self.world == self.rank

    def pick(self, items: Iterable[Item]) -> Iterator[Item]:
        """The shard's items of the whole list, one by one."""
        return (item for number, item in enumerate(items) if self.holds(number))
