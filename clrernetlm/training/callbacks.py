"""Callbacks of the training of both models."""

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
    WeightAveraging,
)
from torch import Tensor

from clrernetlm.config import TrainingConfig
from clrernetlm.core.device import select_device
from clrernetlm.core.errors import UserError
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.training.checkpoint_io import last_checkpoint
from clrernetlm.weights.init_models import save_lanelm


class ModelEma(WeightAveraging):
    """Validates and saves the exponential moving average of the weights; `momentum` is the weight of the newest.

    The first updates count more, 9 / (10 + number), so that the random start is forgotten however short the run.
    Weights that never change, such as those of a frozen detector, keep their bits: Lightning's own
    `EMAWeightAveraging` rounds them anew at every step. Counters are copied.

    `device`: where the model trains. Lightning would look at the model before it has moved there, keep the average on
    the host, and fetch all weights in every step.
    """

    def __init__(self, momentum: float, device: torch.device | None = None) -> None:
        def average(mean: Tensor, newest: Tensor, updates: Tensor | int) -> Tensor:
            if not mean.is_floating_point():
                return newest
            weight = torch.clamp(9 / (10 + torch.as_tensor(updates)), min=momentum)
            return mean + (newest - mean) * weight.to(mean.device, mean.dtype)

        super().__init__(device, avg_fn=average)


class SaveLaneLMEachEpoch(Callback):
    """After every epoch, detector and LaneLM in a file of `folder`: `name` with {} for the number, from 1.

    Raises UserError before a fresh run that would replace such a file, of another run or of another program.
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


class EpochSeed(Callback):
    """Reseeds every epoch from (seed, epoch, rank), so that a resumed run draws the same dropout as an unbroken one."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # a run that is resumed within an epoch does not start it again

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 4099 + trainer.global_rank)


class OwnSigterm(Callback):
    """Keeps the handler of SIGTERM that was there before the training.

    Lightning puts one of its own before it, which talks to the other processes: where those have ended, or wait for
    this one, it fails or waits as well.
    """

    def __init__(self) -> None:
        self.handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if callable(self.handler) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self.handler)


class StepLimit(Callback):
    """Ends the training after `max_steps` optimiser steps.

    Lightning's own limit makes it count the steps of a resumed run from the middle of an epoch, whatever the checkpoint
    says, so that it skips the epoch after the checkpoint.
    """

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= self.max_steps:
            trainer.should_stop = True


class Divergence(Callback):
    """Ends a training whose loss or weights are no longer finite, before it validates or saves them.

    `every`: steps between looks at the loss on devices that would have to be waited for; on a CPU every step counts. A
    training in float16 may lose a few steps: the optimiser leaves them out, and losses are scaled down.
    """

    def __init__(self, settings: TrainingConfig, every: int = 10) -> None:
        self.settings, self.every = settings, every
        self.allowed = 10 if settings.precision == "16-mixed" else 0
        self.lost: Tensor | None = None  # steps in a row whose loss was not finite, on the device

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs["loss"].detach()
        lost = torch.zeros_like(loss, dtype=torch.long) if self.lost is None else self.lost
        self.lost = torch.where(loss.isfinite(), 0, lost + 1)
        last = trainer.is_last_batch or trainer.should_stop
        if not last and loss.device.type != "cpu" and (batch_idx + 1) % self.every:
            return
        steps = int(self.lost)
        what = f"the loss is not finite ({loss.item():g})" if steps > self.allowed else ""
        if not what and last and not _all_finite(pl_module):
            what = "weights are not finite"
        # All processes stop together: whoever is left would wait for the others for ever.
        if not trainer.strategy.reduce_boolean_decision(not what, all=True):
            raise UserError(self.advice(trainer, what or "another process lost its loss", max(0, steps - 1)))

    def advice(self, trainer: pl.Trainer, what: str, ago: int) -> str:
        """What happened `ago` batches before this one, and what to do about it."""
        settings = self.settings
        clip = (
            "set training.clip_norm" if settings.clip_norm is None else f"training.clip_norm ({settings.clip_norm:g})"
        )
        precision = "" if settings.precision == "32-true" else ", or train in training.precision 32-true"
        last = last_checkpoint(Path(trainer.default_root_dir))
        again = f"continue from {last} with `resume=True`" if last is not None else "begin again"
        step = f"step {trainer.global_step - ago} of epoch {trainer.current_epoch + 1}"
        return (
            f"training diverged: {what} at {step}; lower training.learning_rate ({settings.learning_rate:g}) or "
            f"{clip}{precision}, and {again}"
        )


def _all_finite(module: pl.LightningModule) -> bool:
    values = [value for value in module.state_dict().values() if value.is_floating_point() and value.numel()]
    return bool(torch.stack([value.isfinite().all() for value in values]).all())


class DataWait(Callback):
    """Logs `data_wait`, the share of an epoch in which the training stood and waited for images, and says when to act.

    The first batch of an epoch, for which workers start, does not count. On a GPU, which works on while the host
    waits, it is the most that may have been lost.
    """

    MUCH = 0.2

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.clock, self.share = clock, 0.0
        self.begin()  # a run that is resumed within an epoch does not start it again

    def begin(self) -> None:
        """Forget the last epoch."""
        self.waited, self.began, self.since = 0.0, 0.0, 0.0  # seconds

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        now = self.clock()
        if not self.began:
            self.began = now
        else:
            self.waited += now - self.since

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.since = self.clock()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.share = self.waited / max(self.since - self.began, 1e-9)
        pl_module.log("data_wait", self.share, sync_dist=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero and self.share > self.MUCH:
            warnings.warn(
                f"training waited for images {100 * self.share:.0f} % of the last epoch; raise data.num_workers, "
                "or use data.decode=half",
                stacklevel=2,
            )


def displayed_metrics(metrics: dict[str, Any]) -> dict[str, Any]:
    """What a progress bar of Lightning shows: no number of the logger's run; F1 in percent, as in all tables."""
    displayed = {name: value for name, value in metrics.items() if name != "v_num"}
    f1 = displayed.pop("val/F1@50", None)
    return displayed if f1 is None else displayed | {"F1@50": f"{100 * float(f1):.2f} %"}


class LiveProgressBar(RichProgressBar):
    """A bar that a terminal draws anew."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return displayed_metrics(super().get_metrics(*args))


class PlainProgressBar(TQDMProgressBar):
    """A bar that ends its line when the training fails, so that the error has a line of its own."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        return displayed_metrics(super().get_metrics(*args))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self._train_progress_bar is not None:
            self._train_progress_bar.close()


def training_progress_bar() -> Callback:
    """A live bar on a terminal; elsewhere (logs, CI) a plain one that prints now and then."""
    return LiveProgressBar(leave=True) if sys.stderr.isatty() else PlainProgressBar(refresh_rate=20)


class RunCheckpoint(ModelCheckpoint):
    """Whole files in the folder of a run; a resumed run knows those that are in its own.

    Lightning forgets the best score where the folder has another name than before (moved, or named from another
    place), and would then overwrite the best checkpoint with a worse one.
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
        self.surplus: list[str] = []  # files of a run that kept more of them

    @property
    def state_key(self) -> str:
        # The name of the base class: it is what checkpoints of earlier versions have.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(self.dirpath or "")
        scores = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        kept = {path: score for path, score in scores.items() if os.path.isfile(path)}
        if not kept:
            return  # this folder begins anew
        surplus = max(0, len(kept) - self.save_top_k) if self.save_top_k > 0 else 0
        self.surplus = sorted(kept, key=kept.__getitem__)[:surplus]
        kept = {path: score for path, score in kept.items() if path not in self.surplus}
        best, worst = max(kept, key=kept.__getitem__), min(kept, key=kept.__getitem__)
        here = {"dirpath": self.dirpath, "best_k_models": kept, "best_model_path": best, "kth_best_model_path": worst}
        super().load_state_dict(state_dict | here | {"best_model_score": kept[best], "kth_value": kept[worst]})

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        while self.surplus:
            self._remove_checkpoint(trainer, self.surplus.pop())


def training_callbacks(settings: TrainingConfig, validates: bool) -> list[Callback]:
    """Everything that watches a training run, in the order it must act."""
    callbacks: list[Callback] = [EpochSeed(settings.seed), OwnSigterm()]
    if settings.max_steps > 0:
        callbacks.append(StepLimit(settings.max_steps))
    callbacks += [Divergence(settings), LearningRateMonitor("step"), DataWait(), training_progress_bar()]
    if settings.ema_momentum:
        callbacks.append(ModelEma(settings.ema_momentum, select_device(settings.device)))
    # The best first: what is saved after every epoch, and resumed from, has to know of it.
    if validates:
        callbacks.append(RunCheckpoint("best", "val/F1@50"))
    # Every epoch, the last few kept: a killed run loses one epoch at most.
    callbacks.append(
        RunCheckpoint("epoch_{epoch:04d}", "epoch", auto_insert_metric_name=False, save_top_k=settings.keep_checkpoints)
    )
    return callbacks
