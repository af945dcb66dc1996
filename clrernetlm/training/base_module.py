"""Defines the base class of the training modules of both models."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.lane import Lane
from clrernetlm.core.version import __version__
from clrernetlm.training.data_module import LaneDataModule
from clrernetlm.training.optimizer import build_optimizer
from clrernetlm.training.resume import completed_progress
from clrernetlm.training.validation_counts import ValidationTally

Batch = dict[str, Any]


class LaneModule(pl.LightningModule):
    """Logs losses and CULane scores, and writes the configuration into checkpoints.

    The scores of a validation are those of `tallies`, logged under `val/` and the tally's name.
    """

    def __init__(self, config: Config, tallies: Sequence[str] = ("",)) -> None:
        super().__init__()
        self.config = config
        self.done = 0, 0, 0  # of earlier runs: whole epochs, batches of the next one, optimiser steps
        self.tallies = {name: ValidationTally(config.evaluation) for name in tallies}

    @abstractmethod
    def init_weights(self, data: LaneDataModule) -> None:
        """Initialise the weights of a fresh run beyond random numbers; raises UserError for an unusable file."""

    def on_train_start(self) -> None:
        """Log every epoch at least once, however short it is."""
        steps = int(self.trainer.estimated_stepping_batches) // self.config.training.epochs
        self.trainer.log_every_n_steps = max(1, min(self.config.training.log_every, steps))  # type: ignore[attr-defined]

    def log_losses(self, losses: Mapping[str, Tensor], size: int) -> Tensor:
        """Log the losses of a batch of `size` images; returns their sum."""
        total = torch.stack(list(losses.values())).sum()
        parts = {f"train/{name}": value.detach() for name, value in losses.items()}
        self.log("loss", total.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        self.log_dict(parts, batch_size=size, sync_dist=True)
        return total

    def add_to_tally(self, found: Sequence[Sequence[Lane]], metas: Sequence[Mapping[str, Any]], name: str = "") -> None:
        """Add the lanes of a batch of validation images to the tally `name`."""
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

    def resume(self, data: LaneDataModule, saved: dict[str, Any], path: Path) -> None:
        """Restore the state of the training checkpoint `saved`, read from the file `path`.

        Raises UserError when weights or data do not fit.
        """
        try:
            self.load_state_dict(saved["state_dict"])
        except (KeyError, RuntimeError):
            reason = "its weights do not fit this configuration; resume with the one it belongs to"
            raise UserError(f"{path}: {reason}") from None
        trained = [len(group["params"]) for group in saved["optimizer_states"][0]["param_groups"]]
        if trained != [len(group["params"]) for group in self.parameter_groups()]:
            raise UserError(
                f"{path}: trained other weights than this run would, because only one of them has lane masks; set "
                "data.use_masks and data.train_list as they were"
            )
        before, now = saved.get("training_images"), len(data.images)
        if before not in (None, now):
            if completed_progress(saved)[1]:
                raise UserError(
                    f"{data.config.data.train_list}: {now} images, but training.max_steps ended {path} within an epoch "
                    f"of {before}; bring them back until an epoch has ended"
                )
            warnings.warn(f"{path}: trained on {before} images until here, and goes on with {now}", stacklevel=3)
        self.done = *completed_progress(saved), saved["global_step"]

    @abstractmethod
    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameter groups to train, with the optimiser settings of each."""

    def configure_optimizers(self) -> Any:
        """Build AdamW and a learning rate schedule that ends with the training.

        The finished part of a resumed run counts as if it had been trained with the present settings: with twice the
        batch size, ten epochs of 100 steps count as 500 steps.
        """
        settings = self.config.training
        steps_per_epoch = int(self.trainer.estimated_stepping_batches) // settings.epochs
        epochs, batches, steps = self.done
        done = epochs * steps_per_epoch + batches // settings.accumulate
        left = settings.epochs * steps_per_epoch - done
        if settings.max_steps > 0:
            left = min(left, settings.max_steps - steps)
        return build_optimizer(self.parameter_groups(), settings, done + left, done)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        loop = self.trainer.fit_loop
        if loop.epoch_loop.batch_progress.current.completed < self.trainer.num_training_batches:
            # `max_steps` ended the run within an epoch, which Lightning counts as whole. A resumed run finishes it.
            for progress in ("current", "total"):
                checkpoint["loops"]["fit_loop"]["epoch_progress"][progress]["processed"] -= 1
        checkpoint["config"] = to_dict(self.config)
        checkpoint["training_images"] = len(self.trainer.datamodule.images)  # type: ignore[attr-defined]
        checkpoint["clrernetlm_version"] = __version__
