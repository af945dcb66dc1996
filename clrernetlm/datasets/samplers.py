"""Which images each process sees, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
from torch.utils.data import Dataset, Sampler

from clrernetlm.datasets.transforms import Sample
from clrernetlm.distributed.sharding import Shard


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index) for training, the same whatever the number of processes.

    The order is a function of (seed, epoch) alone. Global batch k is rows k*G..(k+1)*G of the epoch's permutation, and
    each of `world` processes takes an equal, contiguous share of it, so N processes together see exactly the batches
    that one process would. The last, incomplete global batch is dropped (BatchNorm wants full batches) unless it is the
    only one; then it is kept so that tiny data sets train.

    `batches_done` says, when an epoch begins, how many of its batches were already trained on; they are left out.
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
        """Itself: Lightning announces epochs to `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(1, self.length // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        permutation = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        if self.length < self.batch_size:  # one batch: every process needs a full share, so images repeat
            permutation = np.resize(permutation, -(-self.length // self.world) * self.world)
        share = min(self.batch_size, len(permutation)) // self.world
        epoch = self.epoch
        for batch in range(self.batches_done(), len(self)):
            start = batch * self.batch_size + self.rank * share
            yield [(epoch, int(index)) for index in permutation[start : start + share]]


class ShardBatches(Sampler[list[int]]):
    """The runs of a shard as batches: each image exactly once over all processes, none repeated.

    `equal`: every process takes equally many batches, the last of which may be empty. DDP wants that: its forward pass
    also talks to the other processes in a validation.
    """

    def __init__(self, length: int, shard: Shard, equal: bool = False) -> None:
        self.length, self.shard, self.equal = length, shard, equal

    def __len__(self) -> int:
        runs, world = -(-self.length // self.shard.chunk_size), self.shard.world
        return -(-runs // world) if self.equal else len(range(self.shard.rank, runs, world))

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(len(self)):
            start = (number * self.shard.world + self.shard.rank) * self.shard.chunk_size
            yield [*range(start, min(start + self.shard.chunk_size, self.length))]


class EpochDataset(Protocol):
    """A data set whose items depend on the epoch."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose the augmentations of the next items."""


class EpochKeyedDataset(Dataset[Sample]):
    """An `EpochDataset` indexed by (epoch, index), so that long-lived loader workers need no message per epoch."""

    def __init__(self, dataset: EpochDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        self.dataset.set_epoch(epoch)
        return self.dataset[index]
