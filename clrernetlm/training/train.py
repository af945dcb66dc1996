"""Training from a configuration to checkpoints: `clrernetlm train`."""

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
from clrernetlm.training.lanelm_data_module import LaneLMDataModule
from clrernetlm.training.lanelm_module import MODULES
from clrernetlm.training.launch_checks import check_processes
from clrernetlm.training.resume import (
    behind,
    check_settings,
    first_process,
    is_finished,
    is_of_run,
    prepare_work_directory,
    require_own_work_directory,
    starting_point,
)
from clrernetlm.training.validation_counts import require_fitting_validation

Parts = tuple[LaneModule, LaneDataModule]
FULL = (errno.ENOSPC, errno.EDQUOT)


def work_directory(config: Config) -> Path:
    """Where a run leaves its checkpoints and logs."""
    path = Path(config.training.work_dir or Path("work_dirs") / (config.name or "unnamed"))
    # `new/..` is another directory's name, whose files are found under it only after `new` has been made.
    return path if path.exists() else Path(os.path.normpath(path))


def detector_parts(config: Config) -> Parts:
    """What trains CLRerNet."""
    data = CulaneDataModule(config)
    return DetectorModule(config, segments=data.has_masks), data


def lanelm_parts(config: Config) -> Parts:
    """What trains LaneLM."""
    module = MODULES[config.lanelm.variant](config)
    return module, LaneLMDataModule(config, module.model)


MODULES_OF_TASK: dict[str, Callable[[Config], Parts]] = {"clrernet": detector_parts, "lanelm": lanelm_parts}


def train(config: Config, resume: bool | str = False, callbacks: Sequence[pl.Callback] = ()) -> Path:
    """Train the model of `config.task` and return the checkpoint to use: the best on validation, else the last.

    `resume=True` goes on from the last checkpoint in the work directory, a path from that file; the result is the one
    of a run that was never interrupted. Leaves `checkpoints/*.ckpt`, `metrics.csv` and TensorBoard events in the work
    directory. Raises UserError when the directory already holds a run and `resume` is off, when a setting does not fit
    the machine, or when a file cannot be read or written.
    """
    work_dir = work_directory(config)
    start = starting_point(work_dir, resume)
    if first_process() and (start is None or not is_of_run(start, work_dir)):
        require_own_work_directory(config, work_dir)
    if start is not None:
        saved = AtomicCheckpointIO().load_checkpoint(start)
        check_settings(config, saved, start)
        if is_finished(saved, config):
            if first_process():
                epochs, steps = behind(saved)[0], saved["global_step"]
                warnings.warn(
                    f"{start}: this training is finished ({epochs} epochs, {steps} steps); raise training.epochs to go "
                    "on",
                    stacklevel=2,
                )
            return trained_checkpoint(work_dir)
    if first_process():
        sweep_temporary_files(work_dir / "checkpoints")
    if config.training.validate_every:
        require_fitting_validation(config)
    keep_freed_memory()
    torch.manual_seed(config.training.seed)  # the first weights; every process draws the same
    module, data = MODULES_OF_TASK[config.task](config)
    trainer = build_trainer(config, work_dir, callbacks)
    if start is None:
        module.init_weights(data)
    else:
        module.resume(data, saved, start)
        if trainer.is_global_zero:
            prepare_work_directory(work_dir, start, config, saved)
    if config.training.sync_batch_norm and trainer.world_size > 1 and trainer.strategy.root_device.type == "cpu":
        synchronise_batch_norm(module)
    make_work_directory(work_dir)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=start, weights_only=True)
    except SystemExit:
        # Lightning's answer to Ctrl-C, in place of the exception; from then on it ignores the signal.
        if not trainer.interrupted:
            raise
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if not lost_connection(error):
            raise
        raise UserError(
            "another process of this training has ended; see its message, then continue with `resume=True`"
        ) from None
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise UserError(
            f"{work_dir}: cannot be written ({error.strerror}); free space, then continue with `resume=True`"
        ) from None
    return trained_checkpoint(work_dir)


def lost_connection(error: RuntimeError) -> bool:
    """Whether another process of the training is gone; gloo has no class of error for that, NCCL has."""
    return isinstance(error, torch.distributed.DistError) or "gloo/transport" in str(error)


def make_work_directory(work_dir: Path) -> None:
    """Raise UserError where nothing can be written, before the first epoch is computed."""
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=work_dir) as file:
            file.write(bytes(1 << 20))  # what logs take; on a full disk their own thread would write a traceback
    except OSError as error:
        raise UserError(
            f"{work_dir}: cannot be written ({error.strerror}); free space, check permissions, or set another "
            "training.work_dir"
        ) from None


def trained_checkpoint(work_dir: Path) -> Path:
    """The checkpoint of a run to use: the best on validation, else the last.

    A `best.ckpt` of another run, which a killed run or a copy left in the folder, is not taken.
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
    """F1@50 of the validation that chose a checkpoint `best.ckpt`, 0 to 1; None for others."""
    return best_f1(checkpoint) if checkpoint.name == "best.ckpt" else None


def best_f1(checkpoint: Path) -> float | None:
    """The best F1@50 on validation, 0 to 1, that a training checkpoint knows of its run; None without a validation."""
    states = AtomicCheckpointIO().load_checkpoint(checkpoint).get("callbacks", {})
    scores = [state["best_model_score"] for key, state in states.items() if "'val/F1@50'" in key]
    return float(scores[0]) if scores and scores[0] is not None else None


def build_trainer(config: Config, work_dir: Path, callbacks: Sequence[pl.Callback] = ()) -> pl.Trainer:
    """Lightning's trainer for `config.training`; raises UserError for what does not fit the machine or the launcher."""
    settings = config.training
    validates = settings.validate_every > 0
    device = select_device(settings.device)
    check_processes(config, device)
    if config.task == "lanelm" and settings.precision == "64-true":
        raise UserError("training.precision: 64-true is for CLRerNet; LaneLM trains in 32-true or a mixed precision")
    torch.set_float32_matmul_precision("high")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # advice, not news
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*The dirpath has changed.*")
    warnings.filterwarnings("ignore", message=".*The number of training batches.*")
    # A run that validates no more does not keep a best checkpoint.
    warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint need to be provided.*")
    # Ours are: EpochSampler leaves out what an unfinished epoch has seen.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    # LaneLM's detector is frozen and in evaluation mode on purpose.
    warnings.filterwarnings("ignore", message=r".*module\(s\) in eval mode at the start of training.*")
    # A run that ends before its first validation has no best checkpoint; the last one is its result.
    warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
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
            use_distributed_sampler=False,  # EpochSampler and ShardBatches share the images out themselves
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
