"""Loads training and validation data, with the same batches for one process and for many."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.core.errors import UserError
from clrernetlm.datasets import build_dataset, collate
from clrernetlm.datasets.culane import CulaneDataset
from clrernetlm.datasets.loaders import (
    ImageLoader,
    build_loader,
    limit_worker_threads,
    loader_workers,
    worker_start_method,
)
from clrernetlm.datasets.samplers import EpochDataset, EpochKeyedDataset, EpochSampler
from clrernetlm.distributed.sharding import Shard


class LaneDataModule(pl.LightningDataModule):
    """Loads the training and validation data of `config.data`.

    `images` is the training split, `train_dataset` the training samples made of it. `config.data.batch_size` counts the
    images of all processes. Raises UserError if no training image is left.
    """

    def __init__(self, config: Config, images: CulaneDataset, train_dataset: EpochDataset) -> None:
        super().__init__()
        self.config, self.images, self.train_dataset = config, images, train_dataset
        if not len(images):
            raise UserError(f"{config.data.train_list}: no image left to train on; check list and diff_threshold")
        if config.training.validate_every:
            build_dataset(config, "val")  # raises for an unreadable list now, not after the first epoch

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        batch_size, workers = self.config.data.batch_size, loader_workers(self.config.data.num_workers)
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return ImageLoader(
            EpochKeyedDataset(self.train_dataset),
            batch_sampler=EpochSampler(
                len(self.train_dataset),
                batch_size,
                seed=self.config.training.seed,
                rank=rank,
                world=world,
                # More than 0 if max_steps ended the resumed run within an epoch.
                batches_done=lambda: progress.current.ready,
            ),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context=worker_start_method(workers, world),
            worker_init_fn=limit_worker_threads,
            # Its own generator: starting an iteration draws from it, and must not shift the dropout of an epoch.
            generator=torch.Generator(),
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        rank, world = self.trainer.global_rank, self.trainer.world_size
        shard = Shard(rank, world, chunk_size=max(1, self.config.data.batch_size // world))
        return build_loader(self.config, "val", shard, equal=True)


class CulaneDataModule(LaneDataModule):
    """Images with the detector's targets; raises UserError for a list that is missing."""

    def __init__(self, config: Config) -> None:
        images = build_dataset(config, "train")
        super().__init__(config, images, images)

    @property
    def has_masks(self) -> bool:
        """Return whether training batches contain `masks`."""
        return self.images.has_masks
