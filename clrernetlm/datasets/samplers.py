"""Defines samplers: the images of each process, and their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset, Sampler

from clrernetlm.datasets.transforms import Sample
from clrernetlm.distributed.sharding import Shard


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Yields batches of (epoch, index) for training, independent of the number of processes.

    The order is a function of (seed, epoch) alone. Global batch k is rows k*G..(k+1)*G of the epoch's permutation, and
    each of `world` processes takes an equal, contiguous share of it, so that the batches of N processes together are
    those of one process. The last, incomplete global batch is dropped (BatchNorm needs full batches) unless it is the
    only one, so that tiny data sets can be trained on.

    `batches_done` returns, at the start of an epoch, the number of its batches that were already trained on; they are
    skipped.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        *,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world: int = 1,
        batches_done: Callable[[], int] = lambda: 0,
    ) -> None:
        self.length, self.batch_size = length, batch_size
        self.seed, self.epoch, self.rank, self.world, self.batches_done = seed, epoch, rank, world, batches_done

    @property
    def sampler(self) -> EpochSampler:
        """Return itself, because Lightning calls `set_epoch` of `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutation = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        if self.length < self.batch_size:  # one batch, with repeated images, because all shares must be equal
            permutation = np.resize(permutation, -(-self.length // self.world) * self.world)
        share = min(self.batch_size, len(permutation)) // self.world
        epoch = self.epoch
        for batch in range(self.batches_done(), len(self)):
            start = batch * self.batch_size + self.rank * share
            yield [(epoch, int(index)) for index in permutation[start : start + share]]


class ShardBatches(Sampler[list[int]]):
    """Yields the chunks of a shard as batches: each image exactly once over all processes.

    `equal`: every process takes equally many batches, the last of which may be empty. DDP needs that, because its
    forward pass is synchronised in validation, too.
    """

    def __init__(self, length: int, shard: Shard, equal: bool = False) -> None:
        self.length, self.shard, self.equal = length, shard, equal

    def __len__(self) -> int:
        chunks, world = -(-self.length // self.shard.chunk_size), self.shard.world
        return -(-chunks // world) if self.equal else len(range(self.shard.rank, chunks, world))

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(len(self)):
            start = (number * self.shard.world + self.shard.rank) * self.shard.chunk_size
            yield [*range(start, min(start + self.shard.chunk_size, self.length))]


class EpochDataset(Protocol):
    """Interface of data sets whose items depend on the epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, which selects the augmentations of the next items."""


class EpochKeyedDataset(Dataset[Sample]):
    """Wraps an `EpochDataset` to be indexed by (epoch, index), so that persistent workers need no message per epoch."""

    def __init__(self, dataset: EpochDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        self.dataset.set_epoch(epoch)
        return self.dataset[index]
