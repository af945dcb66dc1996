"""What the trainings of both models have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from clrernetlm import __version__
from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
from clrernetlm.engine.data_module import LaneDataModule
from clrernetlm.engine.validation import ValidationTally
from clrernetlm.lane import Lane

Batch = dict[str, Any]


def network_input(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 BGR -> float32 in [0, 1]; converted on the device, so that a quarter of the bytes travel.

    Channels lie side by side, as fast convolutions want them. In a training in double precision, float64.
    """
    return images.contiguous(memory_format=torch.channels_last).to(torch.get_default_dtype()).div_(255)


class LaneModule(pl.LightningModule):
    """Logs losses and CULane scores, and writes the configuration into checkpoints.

    The scores of a validation are those of `tallies`, logged under `val/` and the tally's name.
    """

    def __init__(self, config: Config, tallies: Sequence[str] = ("",)) -> None:
        super().__init__()
        self.config = config
        self.tallies = {name: ValidationTally(config.evaluation) for name in tallies}

    @abstractmethod
    def begin(self, data: LaneDataModule) -> None:
        """What a fresh run starts from besides random numbers; raises UserError when it cannot be had."""

    def log_losses(self, losses: Mapping[str, Tensor], size: int) -> Tensor:
        """Losses of a batch of `size` images -> their sum; all of them are logged."""
        total = torch.stack(list(losses.values())).sum()
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log("loss", total.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        self.log_dict(parts, batch_size=size, sync_dist=True)
        return total

    def count(self, found: Sequence[Sequence[Lane]], metas: Sequence[Mapping[str, Any]], name: str = "") -> None:
        """Add the lanes of a batch of validation images to a tally."""
        root = Path(self.config.data.root)
        for meta, lanes in zip(metas, found, strict=True):
            self.tallies[name].add(lanes, root / meta["path"].lstrip("/"), meta["frame_size"])

    def on_validation_epoch_start(self) -> None:
        for tally in self.tallies.values():
            tally.reset()

    def on_validation_epoch_end(self) -> None:
        def add_up(counts: Tensor) -> Tensor:
            return self.trainer.strategy.reduce(counts.to(self.device), reduce_op="sum")

        for name, tally in self.tallies.items():
            for score, value in tally.scores(add_up).items():
                self.log(f"val/{name}{score}", value, prog_bar=not name and score == "F1@50", rank_zero_only=True)

    def optimizer_steps(self) -> int:
        """Optimiser steps of the whole training."""
        steps, limit = int(self.trainer.estimated_stepping_batches), self.config.training.max_steps
        return min(steps, limit) if limit > 0 else steps

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        loop = self.trainer.fit_loop
        if loop.epoch_loop.batch_progress.current.completed < self.trainer.num_training_batches:
            # `max_steps` ended the run within an epoch, which Lightning counts as whole. A resumed run finishes it.
            for progress in ("current", "total"):
                checkpoint["loops"]["fit_loop"]["epoch_progress"][progress]["processed"] -= 1
        checkpoint["config"] = to_dict(self.config)
        checkpoint["clrernetlm_version"] = __version__
