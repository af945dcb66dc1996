"""The loaders of one experiment, the same for one process and for many."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.data import build_dataset, collate
from clrernetlm.data.culane import CulaneDataset, Sample, Split
from clrernetlm.engine.sampling import EpochDataset, EpochKeyedDataset, EpochSampler, ShardBatches
from clrernetlm.errors import UserError
from clrernetlm.shards import Shard
from clrernetlm.worker_pool import available_cores

RUNTIMES = ("openvino", "onnxruntime")  # modules


def loader_workers(wanted: int) -> int:
    """Worker processes to start: what the settings ask for, never more than the cores it may use."""
    return min(wanted, available_cores())


def worker_start(workers: int, world: int) -> str | None:
    """How worker processes begin: not as a fork of a process with threads of its own; None: the platform's own way.

    A process that talks to others, or has loaded a runtime, has such threads; what a fork copies of their locks can
    hang or crash a worker.
    """
    threads = world > 1 or any(name in sys.modules for name in RUNTIMES)
    careful = workers > 0 and threads and "forkserver" in multiprocessing.get_all_start_methods()
    return "forkserver" if careful else None


def quiet_worker(worker: int) -> None:
    """One thread per worker: OpenCV's and PyTorch's own threads would only fight over the cores."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def collate_shard(samples: Sequence[Sample]) -> dict[str, Any]:
    """`collate`, also of no samples: a batch whose `metainfo` is empty."""
    return collate(samples) if samples else {"metainfo": []}


def build_loader(config: Config, split: Split, shard: Shard | None = None, equal: bool = False) -> DataLoader[Any]:
    """Batches of validation or test images, each image exactly once over all processes; `ShardBatches` explains.

    Without a shard: all images, in batches of `data.batch_size`.
    """
    dataset, workers = build_dataset(config, split), loader_workers(config.data.num_workers)
    shard = shard or Shard(run=config.data.batch_size)
    return DataLoader(
        dataset,
        batch_sampler=ShardBatches(len(dataset), shard, equal),
        collate_fn=collate_shard,
        num_workers=workers,
        multiprocessing_context=worker_start(workers, shard.world),
        worker_init_fn=quiet_worker,
        pin_memory=torch.cuda.is_available(),
    )


class EpochLoader(DataLoader[Any]):
    """Begins an epoch when its first batch is asked for, not when the loop over its batches is made.

    Lightning makes that loop before it has read from a checkpoint which epoch comes next. Worker processes begin to
    load at once, and a resumed run would train on the images of another epoch.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator waits for its first `next`
        yield from super().__iter__()


class LaneDataModule(pl.LightningDataModule):
    """Training and validation loaders of `config.data`.

    `images` is the training split, `train_dataset` what is made of it. `config.data.batch_size` counts images over all
    processes. Raises UserError for a list that leaves no image.
    """

    def __init__(self, config: Config, images: CulaneDataset, train_dataset: EpochDataset) -> None:
        super().__init__()
        self.config, self.images, self.train_dataset = config, images, train_dataset
        if not len(images):
            raise UserError(f"{config.data.train_list}: no image left to train on; check list and diff_threshold")
        if config.training.validate_every:
            build_dataset(config, "val")  # a list that cannot be read is better named now than after an epoch

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        batch_size, workers = self.config.data.batch_size, loader_workers(self.config.data.num_workers)
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return EpochLoader(
            EpochKeyedDataset(self.train_dataset),
            batch_sampler=EpochSampler(
                len(self.train_dataset),
                batch_size,
                seed=self.config.training.seed,
                rank=rank,
                world=world,
                done=lambda: progress.current.ready,  # more than 0 where max_steps had ended the run within an epoch
            ),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context=worker_start(workers, world),
            worker_init_fn=quiet_worker,
            # Its own generator: starting an iteration draws from it, and must not shift the dropout of an epoch.
            generator=torch.Generator(),
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        shard = Shard(rank, world, run=max(1, self.config.data.batch_size // world))
        return build_loader(self.config, "val", shard, equal=True)


class CulaneDataModule(LaneDataModule):
    """Images with the detector's targets; raises UserError for a list that is missing."""

    def __init__(self, config: Config) -> None:
        images = build_dataset(config, "train")
        super().__init__(config, images, images)

    @property
    def has_masks(self) -> bool:
        """Whether training batches carry `masks`."""
        return self.images.has_masks
