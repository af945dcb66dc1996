"""Trains a model, from a config to checkpoints: `clrernetlm train`."""

from __future__ import annotations

import errno
import logging
import os
import signal
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from clrernetlm.config import Config
from clrernetlm.core.device import select_device
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import sweep_temporary_files
from clrernetlm.core.memory import keep_freed_memory
from clrernetlm.distributed.batch_norm import synchronise_batch_norm
from clrernetlm.training.base_module import LaneModule
from clrernetlm.training.callbacks import training_callbacks
from clrernetlm.training.checkpoint_io import AtomicCheckpointIO, last_checkpoint
from clrernetlm.training.data_module import CulaneDataModule, LaneDataModule
from clrernetlm.training.detector_module import DetectorModule
from clrernetlm.training.fovea_data_module import FoveaDataModule
from clrernetlm.training.fovea_module import FoveaModule
from clrernetlm.training.lanelm_data_module import LaneLMDataModule
from clrernetlm.training.lanelm_module import MODULES
from clrernetlm.training.launch_checks import check_processes
from clrernetlm.training.resume import (
    check_settings,
    checkpoint_to_resume,
    completed_progress,
    is_finished,
    is_first_process,
    is_in_run,
    prepare_work_directory,
    require_own_work_directory,
)
from clrernetlm.training.validation_counts import require_fitting_validation

ModuleAndData = tuple[LaneModule, LaneDataModule]
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)  # error numbers: no space, or quota used up


# Regular expressions of Lightning's warnings that need no action.
EXPECTED_WARNINGS = (
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*exists and is not empty.*",
    ".*The dirpath has changed.*",
    ".*The number of training batches.*",
    # A run that no longer validates does not keep a best checkpoint.
    ".*callbacks used to create the checkpoint need to be provided.*",
    # The data loader can be resumed: EpochSampler skips the batches that an unfinished epoch has used.
    ".*your dataloader is not resumable.*",
    # The detector of LaneLM is frozen and in evaluation mode on purpose.
    r".*module\(s\) in eval mode at the start of training.*",
    # A run that ends before its first validation has no best checkpoint; its result is the last one.
    ".*could not find the monitored key.*",
)


def work_directory(config: Config) -> Path:
    """Return the folder of a run's checkpoints and logs."""
    path = Path(config.training.work_dir or Path("work_dirs") / (config.name or "unnamed"))
    # `new/..` names another directory, but only once `new` exists.
    return path if path.exists() else Path(os.path.normpath(path))


def build_detector_training(config: Config) -> ModuleAndData:
    """Build the training module and the data of CLRerNet."""
    data = CulaneDataModule(config)
    return DetectorModule(config, segments=data.has_masks), data


def build_lanelm_training(config: Config) -> ModuleAndData:
    """Build the training module and the data of LaneLM, or of its fovea."""
    if config.lanelm.network.fovea:
        return build_fovea_training(config)
    module = MODULES[config.lanelm.variant](config)
    return module, LaneLMDataModule(config, module.model)


def build_fovea_training(config: Config) -> ModuleAndData:
    """Build the training module and the data of the fovea; raises UserError for settings that it cannot have."""
    if config.lanelm.variant != "full":
        raise UserError(f"lanelm.network.fovea: lanelm.variant {config.lanelm.variant} has none; use full")
    if config.lanelm.cache is None or not config.lanelm.cached_augmentations:
        raise UserError(
            "lanelm.cache: the fovea trains on stored answers of LaneLM; set it to a folder, and "
            "lanelm.cached_augmentations to 1 or more"
        )
    module = FoveaModule(config)
    return module, FoveaDataModule(config, module.model)


TRAINING_BUILDERS: dict[str, Callable[[Config], ModuleAndData]] = {
    "clrernet": build_detector_training,
    "lanelm": build_lanelm_training,
}


def train(config: Config, resume: bool | str = False, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Train the model of `config.task`; returns the checkpoint to use: the best on validation, else the last.

    `resume`: True continues from the last checkpoint in the work directory, a path from that file; the result equals
    that of an uninterrupted run. The work directory gets `checkpoints/*.ckpt`, `metrics.csv` and TensorBoard events.
    `callbacks` run after those of the package. Raises UserError if the directory already holds a run and `resume` is
    off, if a setting does not fit the machine, and if a file cannot be read or written.
    """
    work_dir = work_directory(config)
    start = checkpoint_to_resume(work_dir, resume)
    if is_first_process() and (start is None or not is_in_run(start, work_dir)):
        require_own_work_directory(config, work_dir)
    saved = None if start is None else AtomicCheckpointIO().load_checkpoint(start)
    if start is not None and saved is not None:
        check_settings(config, saved, start)
        if is_finished(saved, config):
            warn_of_finished_training(saved, start)
            return trained_checkpoint(work_dir)
    if is_first_process():
        sweep_temporary_files(work_dir / "checkpoints")
    if config.training.validate_every:
        require_fitting_validation(config)
    keep_freed_memory()
    torch.manual_seed(config.training.seed)  # of the initial weights, which every process draws alike
    module, data = TRAINING_BUILDERS[config.task](config)
    trainer = build_trainer(config, work_dir, callbacks)
    if start is None or saved is None:
        module.init_weights(data)
    else:
        module.resume(data, saved, start)
        if trainer.is_global_zero:
            prepare_work_directory(work_dir, start, config, saved)
    if config.training.sync_batch_norm and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        synchronise_batch_norm(module)
    make_work_directory(work_dir)
    fit(trainer, module, data, start, work_dir)
    return trained_checkpoint(work_dir)


def warn_of_finished_training(saved: dict[str, Any], path: Path) -> None:
    """Warn, in the first process, that the checkpoint `path` with the content `saved` needs no further training."""
    if is_first_process():
        epochs, steps = completed_progress(saved)[0], saved["global_step"]
        warnings.warn(
            f"{path}: this training is finished ({epochs} epochs, {steps} steps); raise training.epochs to go on",
            stacklevel=3,
        )


def fit(trainer: pl.Trainer, module: LaneModule, data: LaneDataModule, start: Path | None, work_dir: Path) -> None:
    """Run the training loop, from the checkpoint `start` or from the beginning.

    Raises KeyboardInterrupt on Ctrl-C, and UserError if another process has ended or the disk is full.
    """
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except SystemExit:
        # On Ctrl-C Lightning exits instead of raising KeyboardInterrupt, and ignores the signal from then on.
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        raise UserError(
            "another process of this training has ended; see its message, then continue with `resume=True`"
        ) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise UserError(
            f"{work_dir}: cannot be written ({error.strerror}); free space, then continue with `resume=True`"
        ) from None


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether an error says that another process has ended; NCCL has a class for it, gloo only a message."""
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)


def make_work_directory(work_dir: Path) -> None:
    """Create the work directory; raises UserError if nothing can be written there, before the first epoch."""
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            # About the size of the logs, whose thread would print a traceback on a full disk.
            file.write(bytes(1 << 20))
    except OSError as error:
        raise UserError(
            f"{work_dir}: cannot be written ({error.strerror}); free space, check permissions, or set another "
            "training.work_dir"
        ) from None


def trained_checkpoint(work_dir: Path) -> Path:
    """Return the checkpoint of a run to use: the best on validation, else the last.

    A `best.ckpt` of another run, left in the folder by a killed run or a copy, is ignored. Raises UserError if there is
    no checkpoint.
    """
    last = last_checkpoint(work_dir)
    if last is None:
        raise UserError(f"{work_dir}: training ended before its first epoch; raise training.epochs or max_steps")
    best = work_dir / "checkpoints" / "best.ckpt"
    with suppress(UserError, AttributeError, LookupError, TypeError, ValueError):  # a file of another kind
        if best.exists() and best_f1(best) == best_f1(last) is not None:
            return best
    return last


def validation_f1(checkpoint: Path) -> float | None:
    """Return the F1@50, 0 to 1, by which a checkpoint `best.ckpt` was chosen; None for other checkpoints."""
    return best_f1(checkpoint) if checkpoint.name == "best.ckpt" else None


def best_f1(checkpoint: Path) -> float | None:
    """Return the best F1@50 of its run so far, 0 to 1, that a training checkpoint stores; None without a validation."""
    states = AtomicCheckpointIO().load_checkpoint(checkpoint).get("callbacks", {})
    scores = [state["best_model_score"] for key, state in states.items() if "'val/F1@50'" in key]
    return float(scores[0]) if scores and scores[0] is not None else None


def build_trainer(config: Config, work_dir: Path, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Build Lightning's trainer for `config.training`.

    Raises UserError for settings that do not fit the machine, the launcher or one another.
    """
    settings = config.training
    validates = settings.validate_every > 0
    device = select_device(settings.device)
    check_processes(config, device)
    if config.task == "lanelm" and settings.precision == "64-true":
        raise UserError("training.precision: 64-true is for CLRerNet; LaneLM trains in 32-true or a mixed precision")
    torch.set_float32_matmul_precision("high")
    silence_lightning()
    try:
        return pl.Trainer(
            accelerator={"cuda": "gpu"}.get(device.type, device.type),
            devices=settings.num_devices if device.index is None else [device.index],
            num_nodes=settings.num_nodes,
            strategy=settings.strategy,
            precision=settings.precision,
            max_epochs=settings.epochs,
            accumulate_grad_batches=settings.accumulate,
            gradient_clip_val=settings.clip_norm,
            check_val_every_n_epoch=settings.validate_every if validates else None,
            limit_val_batches=None if validates else 0,
            num_sanity_val_steps=0,
            log_every_n_steps=settings.log_every,
            deterministic="warn" if settings.deterministic else False,
            sync_batchnorm=settings.sync_batch_norm and device.type == "cuda",
            use_distributed_sampler=False,  # EpochSampler and ShardBatches already split the images among processes
            default_root_dir=work_dir,
            callbacks=[*training_callbacks(settings, validates), *callbacks],
            plugins=[AtomicCheckpointIO()],
            logger=[
                CSVLogger(work_dir, name="", version=""),
                TensorBoardLogger(work_dir, name="", version="tensorboard"),
            ],
            enable_model_summary=False,
        )
    except (MisconfigurationException, RuntimeError, ValueError) as error:
        raise UserError(f"training: {str(error).strip().splitlines()[0]}") from error


def silence_lightning() -> None:
    """Switch off Lightning's log of hints, and its warnings of things that are intended here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for message in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
