"""Divides a list of images among processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """The part of a list of process `rank` of `world`: every `world`-th chunk of `chunk_size` consecutive items.

    Every item is in one shard. The last chunk of a list may be shorter, and a shard may be empty. With chunks of the
    size of a batch, the batches of all processes together are those of a single process.
    """

    rank: int = 0
    world: int = 1
    chunk_size: int = 1

    def holds(self, index: int) -> bool:
        """Check whether the item of this index, from 0, is in the shard."""
        return index // self.chunk_size % self.world == self.rank

    def pick(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield the shard's items out of those of the whole list."""
        return (item for index, item in enumerate(items) if self.holds(index))
