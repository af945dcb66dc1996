"""Resumes a training: chooses the checkpoint, checks the settings against it, and prepares the work directory."""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from clrernetlm.config import Config
from clrernetlm.config.serialization import flatten, from_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.overwrite_rules import ReadFiles, begins_with, check_output, read_beginning
from clrernetlm.training.checkpoint_io import LAST_PATTERN, epoch_number, last_checkpoint

# Settings, or groups of them, on which the weights, the optimiser's state or the random numbers of a run depend, or
# which matter only at its beginning. A resumed run must keep them; other values are refused.
KEPT_SETTINGS = (
    "task",
    "model.backbone",
    "model.head",
    "model.viewport",
    "model.max_lanes",
    "lanelm.variant",
    "lanelm.network",
    "training.init_from",
    "training.freeze_stem",
    "training.fit_anchors",
    "training.seed",
)
# Settings of which a resumed run must keep only the property that the function returns.
KEPT_PROPERTIES: dict[str, Callable[[Any], Any]] = {
    "model.loss.seg_weight": lambda weight: weight > 0,
    "training.ema_momentum": lambda momentum: momentum is None,
    "training.precision": lambda precision: precision == "64-true",
    "training.strategy": lambda strategy: strategy.startswith("fsdp"),
}
# Settings without influence on the training: paths, logging, and settings of later steps. The weights of
# `lanelm.detector` are in the checkpoint; another file given there must hold the same weights.
IRRELEVANT_SETTINGS = (
    "name",
    "model.viewport_mode",
    "lanelm.detector",
    "lanelm.cache",
    "lanelm.cache_limit",
    "data.test_list",
    "data.categories",
    "data.num_workers",
    "training.log_every",
    "training.device",
    "training.keep_checkpoints",
    "training.work_dir",
    "evaluation.thresholds",
)
# Settings that change the F1 of a validation: the best so far cannot be compared with later ones.
VALIDATION_SETTINGS = (
    "model.decode",
    "lanelm.decode",
    "data.val_list",
    "evaluation.implementation",
    "evaluation.lane_width",
    "evaluation.image_size",
)
# Settings that a resumed run may change, with a warning; the new values hold for the rest of the training.
CHANGEABLE_SETTINGS = (
    *VALIDATION_SETTINGS,
    "model.head.attention_dropout",
    "model.assigner",
    "model.loss",
    "lanelm.training_requests",
    "lanelm.cached_augmentations",
    "data.root",
    "data.train_list",
    "data.diff_file",
    "data.diff_threshold",
    "data.use_masks",
    "data.batch_size",
    "data.decode",
    "data.augmentation",
    "training.epochs",
    "training.max_steps",
    "training.learning_rate",
    "training.betas",
    "training.weight_decay",
    "training.warmup_steps",
    "training.schedule",
    "training.backbone_lr_scale",
    "training.freeze_backbone_norm",
    "training.clip_norm",
    "training.accumulate",
    "training.validate_every",
    "training.deterministic",
    "training.num_devices",
    "training.num_nodes",
    "training.sync_batch_norm",
)

METRICS_COLUMN = re.compile(r"epoch|data_wait|(lr-|train/|val/).*")  # of metrics.csv, besides `step`


def is_first_process() -> bool:
    """Return whether this is the first process of all; known from the launcher before the processes are connected."""
    return getattr(rank_zero_only, "rank", 0) == 0


def checkpoint_to_resume(work_dir: Path, resume: bool | str) -> Path | None:
    """Return the checkpoint to resume from; None for a fresh run.

    `resume`: a path, or True for the last checkpoint in `work_dir`. Raises UserError if there is none, and if
    `work_dir` holds another run.
    """
    if isinstance(resume, str) and resume:
        if not Path(resume).is_file():
            raise UserError(f"{resume}: no such checkpoint; check the path")
        if not is_in_run(Path(resume), work_dir):
            require_no_run(work_dir)
        return Path(resume)
    last = last_checkpoint(work_dir)
    if resume:
        if last is None:
            raise UserError(
                f"{work_dir / 'checkpoints'}: nothing to resume from; start a new run without `resume=True`"
            )
        return last
    require_no_run(work_dir)
    return None


def is_in_run(checkpoint: Path, work_dir: Path) -> bool:
    """Return whether a checkpoint is one of the run in `work_dir`."""
    return checkpoint.resolve().parent == (work_dir / "checkpoints").resolve()


def require_no_run(work_dir: Path) -> None:
    """Raise UserError if a directory holds a run."""
    # Only in the first process: by the time others check, it may have written its own checkpoints.
    if is_first_process() and last_checkpoint(work_dir) is not None:
        raise UserError(
            f"{work_dir}: already holds a run; continue it with `resume=True`, or choose another work directory"
        )


def require_own_work_directory(config: Config, work_dir: Path) -> None:
    """Raise UserError if a run would replace a file in `work_dir` that is not of an earlier run.

    A run that was killed in its first epoch leaves logs, and perhaps a best checkpoint; these may be replaced.
    """
    logs = work_dir / "tensorboard"
    read = [config.training.init_from, config.lanelm.detector if config.task == "lanelm" else None]
    reads = ReadFiles(path for path in read if path)
    for path, is_own in (
        (work_dir / "metrics.csv", is_metrics),
        (logs / "hparams.yaml", begins_with("{}")),
        (work_dir / "checkpoints" / "best.ckpt", lambda _: any(logs.glob("events.out.tfevents.*"))),
    ):
        check_output(path, "a file of a run", is_own, parameter="training.work_dir", overwrite=True, reads=reads)


def is_metrics(path: Path) -> bool:
    """Return whether a file is the `metrics.csv` of a training, or is empty.

    A column appears with its first value, so that a run killed at its first step has only learning rates.
    """
    text = read_beginning(path).decode(errors="replace")
    columns = text.partition("\n")[0].strip().split(",")
    return not text or ("step" in columns and any(METRICS_COLUMN.fullmatch(column) for column in columns))


def completed_progress(saved: dict[str, Any]) -> tuple[int, int]:
    """Return the completed epochs of a training checkpoint, and the batches of an epoch that `max_steps` cut short."""
    loop = saved["loops"]["fit_loop"]
    epoch, batch = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    return epoch["processed"], batch["completed"] if epoch["processed"] < epoch["started"] else 0


def is_finished(saved: dict[str, Any], config: Config) -> bool:
    """Return whether a training checkpoint is the last one of a training with these settings."""
    steps, limit = saved["global_step"], config.training.max_steps
    return bool(completed_progress(saved)[0] >= config.training.epochs or 0 < limit <= steps)


def setting_group(name: str, groups: Iterable[str]) -> str:
    """Return the longest of the groups, or settings, that contain the setting `name`; empty if none does."""
    return max((group for group in groups if name == group or name.startswith(group + ".")), key=len, default="")


def check_settings(config: Config, saved: dict[str, Any], path: Path) -> None:
    """Raise UserError for changed settings that a resumed run must keep; warn of other changes that have an effect.

    `saved`: the content of the training checkpoint `path`. The new values of accepted settings hold for the rest of the
    training.
    """
    before = flatten(from_dict(saved.get("config", {}), source=str(path)))
    changed = {name: value for name, value in flatten(config).items() if value != before[name]}
    refused = [name for name in changed if must_be_kept(name, before[name], changed[name])]
    if refused:
        values = ", ".join(f"{name} is {changed[name]} and was {before[name]}" for name in refused)
        raise UserError(
            f"{values} in {path}: a resumed run keeps {'it' if len(refused) == 1 else 'them'}; set the old value, or "
            "begin another run, for instance with these weights as training.init_from"
        )
    if completed_progress(saved)[1] and "data.batch_size" in changed:
        raise UserError(
            f"data.batch_size: {changed['data.batch_size']}, but training.max_steps ended {path} within an epoch that "
            f"is shared out in batches of {before['data.batch_size']}; keep that until another epoch has ended"
        )
    effective = [name for name in changed if not setting_group(name, IRRELEVANT_SETTINGS)]
    if effective and is_first_process():
        values = ", ".join(f"{name} ({before[name]} -> {changed[name]})" for name in effective)
        warnings.warn(f"{path}: trained with other settings until here: {values}", stacklevel=3)


def must_be_kept(name: str, before: Any, now: Any) -> bool:
    """Return whether a resumed run must not change the setting `name` from `before` to `now`."""
    if name in KEPT_PROPERTIES:
        return bool(KEPT_PROPERTIES[name](before) != KEPT_PROPERTIES[name](now))
    return setting_group(name, (*KEPT_SETTINGS, *IRRELEVANT_SETTINGS, *CHANGEABLE_SETTINGS)) in KEPT_SETTINGS


def prepare_work_directory(work_dir: Path, start: Path, config: Config, saved: dict[str, Any]) -> None:
    """Move files of the earlier run aside that the run resumed from `start` would overwrite or take for its own.

    `metrics.csv` becomes `metrics.1.csv`, because the logger starts a new file. Checkpoints of later epochs than
    `start`, and a best one whose F1 cannot be compared with later ones, move to the folder `checkpoints/before_1`. If 1
    is taken, the next free number replaces it.
    """
    metrics = work_dir / "metrics.csv"
    if metrics.exists():
        metrics.rename(unused_path(work_dir, "metrics.{}.csv"))
    folder = work_dir / "checkpoints"
    if not is_in_run(start, work_dir):
        return
    outdated = [path for path in folder.glob(LAST_PATTERN) if epoch_number(path) > saved["epoch"]]
    before = flatten(from_dict(saved.get("config", {}), source=str(start)))
    metric_changed = any(
        value != before[name] and setting_group(name, VALIDATION_SETTINGS) for name, value in flatten(config).items()
    )
    best = folder / "best.ckpt"
    if best.exists() and start.name != best.name and (metric_changed or outdated):
        outdated.append(best)
    if outdated:
        target = unused_path(folder, "before_{}")
        target.mkdir()
        for path in outdated:
            path.rename(target / path.name)
        names = ", ".join(sorted(path.name for path in outdated))
        warnings.warn(f"{folder}: {names} moved to {target.name}; this run goes on from {start.name}", stacklevel=3)


def unused_path(folder: Path, name: str) -> Path:
    """Return the first path in `folder` that does not exist, with 1, 2, 3, ... for {} in `name`."""
    return next(path for number in itertools.count(1) if not os.path.lexists(path := folder / name.format(number)))
