"""Builds data loaders: batches, worker processes, shards."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.core.worker_pool import available_cores, end_with_parent
from clrernetlm.datasets import build_dataset, collate
from clrernetlm.datasets.culane import Split
from clrernetlm.datasets.samplers import ShardBatches
from clrernetlm.datasets.transforms import Sample
from clrernetlm.distributed.sharding import Shard

SHARED_MEMORY = "/dev/shm"  # of Linux

AMPLE_SHARED_MEMORY = 16e9  # bytes; more than the largest batches of many workers need

THREADED_RUNTIMES = ("openvino", "onnxruntime")  # modules that start threads when they are imported


def loader_workers(wanted: int) -> int:
    """Compute the number of worker processes: the `wanted` one, at most the available cores."""
    return min(wanted, available_cores())


def worker_start_method(workers: int, world: int) -> str | None:
    """Choose how worker processes are started: never by forking a process with threads; None: the platform's default.

    A process of a distributed run, or one that has loaded a runtime, has such threads; their locks, copied by a fork,
    can hang or crash a worker.
    """
    has_threads = world > 1 or any(name in sys.modules for name in THREADED_RUNTIMES)
    avoid_fork = workers > 0 and has_threads and "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if avoid_fork else None


def limit_worker_threads(worker: int) -> None:
    """Set up a worker with one thread; OpenCV's and PyTorch's own threads would oversubscribe the cores.

    Unlike PyTorch's workers, which check every few seconds whether their parent is alive, it ends with its parent.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    end_with_parent()


def collate_shard(samples: Sequence[Sample]) -> dict[str, Any]:
    """Collate samples; an empty list becomes a batch with empty `metainfo`."""
    return collate(samples) if samples else {"metainfo": []}


def build_loader(config: Config, split: Split, shard: Shard | None = None, equal: bool = False) -> DataLoader[Any]:
    """Build the loader of validation or test images, each image exactly once over all processes (`ShardBatches`).

    Without a shard: all images, in batches of `data.batch_size`.
    """
    dataset, workers = build_dataset(config, split), loader_workers(config.data.num_workers)
    shard = shard or Shard(chunk_size=config.data.batch_size)
    return ImageLoader(
        dataset,
        batch_sampler=ShardBatches(len(dataset), shard, equal),
        collate_fn=collate_shard,
        num_workers=workers,
        multiprocessing_context=worker_start_method(workers, shard.world),
        worker_init_fn=limit_worker_threads,
        pin_memory=torch.cuda.is_available(),
    )


def build_culane_lanelm_dataloader(config: Config) -> DataLoader[Any]:
    """Build the loader of LaneLM's training images for a training loop of your own; shuffled, whole batches only.

    A batch holds `inputs` (B, 3, H, W) uint8, `lane_tokens_x` and `lane_tokens_y` (B, max_lanes, T) int64,
    `lane_valid_mask` (B, max_lanes) bool and `metainfo`, a list. `clrernetlm train` has a data module instead, whose
    order survives a resume. Raises UserError for a list that cannot be read.
    """
    from clrernetlm.datasets.lanelm_formatting import lane_packing

    workers = loader_workers(config.data.num_workers)
    return ImageLoader(
        build_dataset(config, "train", pack=lane_packing(config)),
        batch_size=config.data.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=collate,
        num_workers=workers,
        multiprocessing_context=worker_start_method(workers, 1),
        worker_init_fn=limit_worker_threads,
        generator=torch.Generator().manual_seed(config.training.seed),
        pin_memory=torch.cuda.is_available(),
    )


class ImageLoader(DataLoader[Any]):
    """A DataLoader that starts to load when the first batch is requested, and works with little shared memory.

    Lightning creates an epoch's iterator before it reads the number of the next epoch from a checkpoint. As workers
    would start to load immediately, a resumed run would train on the images of another epoch.

    Workers pass tensors in shared memory, of which a container may have 64 MB; if it is too small they are killed.
    Then batches are passed as arrays through pipes instead: the same values, with a copy or two more.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator runs from its first `next` on
        if self.num_workers and not isinstance(self.collate_fn, CollateToArrays):
            needed, free = self.shared_memory_needed(), free_shared_memory()
            if needed > free:
                self.collate_fn = CollateToArrays(self.collate_fn)
                warnings.warn(
                    f"{SHARED_MEMORY} has {free / 1e6:.3g} MB free, and loader processes would need "
                    f"{needed / 1e6:.3g} MB for their batches; they use pipes, which are slower (a container "
                    "gets more with --shm-size)",
                    stacklevel=1,
                )
        for batch in super().__iter__():
            yield from_arrays(batch) if isinstance(self.collate_fn, CollateToArrays) else batch

    def shared_memory_needed(self) -> int:
        """Estimate the bytes of the batches in flight, from the size of the first image; 0 if memory is ample."""
        if free_shared_memory() > AMPLE_SHARED_MEMORY:
            return 0
        first = next(iter(self.batch_sampler or ()), None)
        if not first:
            return 0
        sample = self.collate_fn([self.dataset[first[0]]])
        size = sum(value.nbytes for value in sample.values() if isinstance(value, torch.Tensor))
        return size * len(first) * (self.num_workers * (self.prefetch_factor or 2) + 2)


class CollateToArrays:
    """Collates samples to arrays, which workers pass through pipes; only tensors use shared memory."""

    def __init__(self, collate: Callable[..., dict[str, Any]]) -> None:
        self.collate = collate

    def __call__(self, samples: Sequence[Sample]) -> dict[str, Any]:
        tensors = {name for sample in samples[:1] for name, value in sample.items() if isinstance(value, torch.Tensor)}
        arrays = {name: np.stack([sample[name].numpy() for sample in samples]) for name in tensors}
        # Without tensors, because `default_collate` stacks them into shared memory.
        others = [{name: value for name, value in sample.items() if name not in tensors} for sample in samples]
        return self.collate(others) | arrays


def from_arrays(batch: dict[str, Any]) -> dict[str, Any]:
    """Convert the arrays of a batch of `CollateToArrays` to tensors."""
    return {name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}


def free_shared_memory() -> float:
    """Return the free bytes of shared memory; infinite if it is not limited by a file system of its own."""
    try:
        status = os.statvfs(SHARED_MEMORY)
    except (OSError, AttributeError):
        return math.inf
    return status.f_bavail * status.f_frsize
