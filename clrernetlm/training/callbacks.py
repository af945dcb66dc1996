"""Defines the Lightning callbacks that training uses, for both models."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import (
    Callback,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    TQDMProgressBar,
)
from torch import Tensor

from clrernetlm.config import TrainingConfig
from clrernetlm.core.device import select_device
from clrernetlm.core.errors import UserError
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.training.checkpoint_io import last_checkpoint
from clrernetlm.training.ema import ModelEma
from clrernetlm.weights.build_models import save_lanelm


class SaveLaneLMEachEpoch(Callback):
    """Saves detector and LaneLM in one file after every epoch: `name` in `folder`, with the epoch, from 1, for {}.

    Raises UserError at the start of a fresh run if one of the files exists already.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.ckpt_path is not None or not trainer.is_global_zero:
            return
        for number in range(1, (trainer.max_epochs or 0) + 1):
            path = self.folder / self.name.format(number)
            if os.path.lexists(path):
                raise UserError(f"{path}: would be overwritten; choose another work directory, or move the file away")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module.model, LaneLMDetectorBase)
        if trainer.is_global_zero:
            path = self.folder / self.name.format(trainer.current_epoch + 1)
            save_lanelm(pl_module.model, path)
            print(f"epoch {trainer.current_epoch + 1}: loss {trainer.callback_metrics['loss']:.4f}, {path}")


class ReseedEachEpoch(Callback):
    """Seeds PyTorch in every epoch from (seed, epoch, rank), so that a resumed run draws the same dropout."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # Lightning skips it for a run resumed within an epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 4099 + trainer.global_rank)


class KeepSigtermHandler(Callback):
    """Restores the SIGTERM handler that was installed before the training.

    Lightning installs its own, which communicates with the other processes: if those have ended, or wait for this one,
    it fails or waits, too.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if callable(self.handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class StepLimit(Callback):
    """Ends the training after `max_steps` optimiser steps.

    Lightning's own limit is not used, because with it a resumed run always starts in the middle of an epoch and skips
    the epoch after the checkpoint.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True


class StopOnDivergence(Callback):
    """Raises UserError when the loss or the weights are no longer finite, before they are validated or saved.

    `every`: number of steps between two checks of the loss on devices where reading it forces a synchronisation; on a
    CPU every step is checked. In float16 a few steps in a row may be lost: the gradient scaler skips them and lowers
    its scale.
    """

    def __init__(self, settings: TrainingConfig, every: int = 10) -> None:
        self.settings, self.every = settings, every
        self.allowed_steps = 10 if settings.precision == "16-mixed" else 0
        self.lost_steps: Tensor | None = None  # steps in a row without a finite loss; a scalar on the device

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        lost_steps = torch.zeros_like(loss, dtype=torch.long) if self.lost_steps is None else self.lost_steps
        self.lost_steps = torch.where(loss.isfinite(), 0, lost_steps + 1)
        is_last = trainer.is_last_batch or trainer.should_stop
        if not is_last and loss.device.type != "cpu" and (batch_idx + 1) % self.every:
            return
        steps = int(self.lost_steps)
        problem = f"the loss is not finite ({loss.item():g})" if steps > self.allowed_steps else ""
        if not problem and is_last and not _all_finite(pl_module):
            problem = "weights are not finite"
        # All processes stop together; otherwise the remaining ones would wait for the others for ever.
        if not trainer.strategy.reduce_boolean_decision(not problem, all=True):
            problem = problem or "the loss of another process is not finite"
            raise UserError(self.message(trainer, problem, max(0, steps - 1)))

    def message(self, trainer: pl.Trainer, problem: str, batches_ago: int) -> str:
        """Describe a problem that began `batches_ago`, and its remedies."""
        settings = self.settings
        clip = (
            "set training.clip_norm" if settings.clip_norm is None else f"training.clip_norm ({settings.clip_norm:g})"
        )
        precision = "" if settings.precision == "32-true" else ", or train in training.precision 32-true"
        last = last_checkpoint(Path(trainer.default_root_dir))
        restart = f"continue from {last} with `resume=True`" if last is not None else "begin again"
        step = f"step {trainer.global_step - batches_ago} of epoch {trainer.current_epoch + 1}"
        return (
            f"training diverged: {problem} at {step}; lower training.learning_rate ({settings.learning_rate:g}) or "
            f"{clip}{precision}, and {restart}"
        )


def _all_finite(module: pl.LightningModule) -> bool:
    values = [value for value in module.state_dict().values() if value.is_floating_point() and value.numel()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


class DataWaitMonitor(Callback):
    """Logs `data_wait`, the share of an epoch's time spent waiting for images, and warns at the end if it is large.

    The wait for the first batch of an epoch, in which workers start, is not counted. On a GPU, which computes while the
    host waits, the share is an upper bound of the time lost.

    `clock` returns seconds.
    """

    WARN_ABOVE = 0.2  # share of the last epoch

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock, self.share = clock, 0.0
        self.reset()  # here, too: Lightning skips on_train_epoch_start for a run resumed within an epoch

    def reset(self) -> None:
        """Discard the times of the last epoch."""
        self.waited, self.epoch_start, self.batch_end = 0.0, 0.0, 0.0  # seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.reset()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = self.clock()
        if not self.epoch_start:
            self.epoch_start = now
        else:
            self.waited += now - self.batch_end

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batch_end = self.clock()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.share = self.waited / max(self.batch_end - self.epoch_start, 1e-9)
        pl_module.log("data_wait", self.share, sync_dist=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.share > self.WARN_ABOVE:
            warnings.warn(
                f"training waited for images {100 * self.share:.0f} % of the last epoch; raise data.num_workers, "
                "or use data.decode=half",
                stacklevel=2,
            )


def displayed_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """Choose the metrics of Lightning's progress bar: without the logger's version; F1 in percent, as in all tables."""
    displayed = {name: value for name, value in metrics.items() if name != "v_num"}
    f1 = displayed.pop("val/F1@50", None)
    return displayed if f1 is None else displayed | {"F1@50": f"{100 * float(f1):.2f} %"}


class LiveProgressBar(RichProgressBar):
    """A progress bar that is redrawn in place, for terminals."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return displayed_metrics(super().get_metrics(*args))


class PlainProgressBar(TQDMProgressBar):
    """A progress bar in plain lines, for logs; it ends its line when the training fails, before the error."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return displayed_metrics(super().get_metrics(*args))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()


def training_progress_bar() -> Callback:
    """Make the progress bar of a training: redrawn in place on a terminal, elsewhere (logs, CI) rare plain lines."""
    return LiveProgressBar(leave=True) if sys.stderr.isatty() else PlainProgressBar(refresh_rate=20)


class RunCheckpoint(ModelCheckpoint):
    """Saves checkpoints in the folder of a run, and restores their scores when the run is resumed.

    Lightning discards the best score if the path of the folder has changed (a moved folder, or another working
    directory), and would then overwrite the best checkpoint with a worse one.
    """

    def __init__(self, filename: str, monitor: str, **settings: Any) -> None:
        super().__init__(
            filename=filename,
            monitor=monitor,
            mode="max",
            enable_version_counter=False,  # an epoch that max_steps cut short is saved again when it is resumed
            save_on_train_epoch_end=True,
            **settings,
        )
        self.surplus: list[str] = []  # files beyond `save_top_k`, if the run kept more of them before it was resumed

    @property
    def state_key(self) -> str:
        # With the name of the base class, as in checkpoints of earlier versions.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath or "")
        scores = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        kept = {path: score for path, score in scores.items() if os.path.isfile(path)}
        if not kept:
            return  # another folder, which has no checkpoints yet
        surplus = max(0, len(kept) - self.save_top_k) if self.save_top_k > 0 else 0
        self.surplus = sorted(kept, key=kept.__getitem__)[:surplus]
        kept = {path: score for path, score in kept.items() if path not in self.surplus}
        best, worst = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
        restored = {
            "dirpath": self.dirpath,
            "best_k_models": kept,
            "best_model_path": best,
            "kth_best_model_path": worst,
        }
        super().load_state_dict(state_dict | restored | {"best_model_score": kept[best], "kth_value": kept[worst]})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        while self.surplus:
            self._remove_checkpoint(trainer, self.surplus.pop())


def training_callbacks(settings: TrainingConfig, validates: bool) -> list[Callback]:
    """Return the callbacks of a training, in the order in which they must run.

    `validates`: the run has validations, so that it keeps the checkpoint with the best F1@50.
    """
    callbacks: list[Callback] = [ReseedEachEpoch(settings.seed), KeepSigtermHandler()]
    if settings.max_steps > 0:
        callbacks.append(StepLimit(settings.max_steps))
    callbacks += [StopOnDivergence(settings), LearningRateMonitor("step"), DataWaitMonitor(), training_progress_bar()]
    if settings.ema_momentum:
        callbacks.append(ModelEma(settings.ema_momentum, select_device(settings.device)))
    # First, because the checkpoints of every epoch, from which runs are resumed, contain its best score.
    if validates:
        callbacks.append(RunCheckpoint("best", "val/F1@50"))
    # One per epoch, of which the last few are kept: a killed run loses at most one epoch.
    callbacks.append(
        RunCheckpoint("epoch_{epoch:04d}", "epoch", auto_insert_metric_name=False, save_top_k=settings.keep_checkpoints)
    )
    return callbacks
