"""Going on with a training: from which checkpoint, and with which settings."""

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

# Settings, or groups of them, that belong to the weights, the optimiser's state or the random numbers of a run, or that
# only count at its beginning. A resumed run keeps them; with other values it is refused.
KEPT = (
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
# Of these only what the function returns is kept.
KEPT_IN_PART: dict[str, Callable[[Any], Any]] = {
    "model.loss.seg_weight": lambda weight: weight > 0,
    "training.ema_momentum": lambda momentum: momentum is None,
    "training.precision": lambda precision: precision == "64-true",
    "training.strategy": lambda strategy: strategy.startswith("fsdp"),
}
# Settings that do not change what is trained: they say where things are and what is used later. The weights of
# `lanelm.detector` are in the checkpoint; another file of that name must hold the same.
HARMLESS = (
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
# All others are obeyed from here on, with a word. These change which F1 a validation gives: the best so far cannot be
# compared with the next.
VALIDATION = (
    "model.decode",
    "lanelm.decode",
    "data.val_list",
    "evaluation.implementation",
    "evaluation.lane_width",
    "evaluation.image_size",
)
OBEYED = (
    *VALIDATION,
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

OWN_COLUMN = re.compile(r"epoch|data_wait|(lr-|train/|val/).*")  # of metrics.csv, beside `step`


def first_process() -> bool:
    """Whether this is the first process of all; the launcher has said so before the processes have met."""
    return getattr(rank_zero_only, "rank", 0) == 0


def starting_point(work_dir: Path, resume: bool | str) -> Path | None:
    """The checkpoint to resume from; None for a fresh run."""
    if isinstance(resume, str) and resume:
        if not Path(resume).is_file():
            raise UserError(f"{resume}: no such checkpoint; check the path")
        if not is_of_run(Path(resume), work_dir):
            refuse_to_overwrite(work_dir)
        return Path(resume)
    last = last_checkpoint(work_dir)
    if resume:
        if last is None:
            raise UserError(
                f"{work_dir / 'checkpoints'}: nothing to resume from; start a new run without `resume=True`"
            )
        return last
    refuse_to_overwrite(work_dir)
    return None


def is_of_run(checkpoint: Path, work_dir: Path) -> bool:
    """Whether a checkpoint is one of the run in `work_dir`, and not of another run."""
    return checkpoint.resolve().parent == (work_dir / "checkpoints").resolve()


def refuse_to_overwrite(work_dir: Path) -> None:
    """Raises UserError for a directory that holds a run."""
    # Rank 0 of a multi-process launch may have written already; only the first process decides.
    if first_process() and last_checkpoint(work_dir) is not None:
        raise UserError(
            f"{work_dir}: already holds a run; continue it with `resume=True`, or choose another work directory"
        )


def require_own_work_directory(config: Config, work_dir: Path) -> None:
    """Raise UserError for a file in `work_dir` that a run would replace and no earlier run has left there.

    A run that was killed in its first epoch leaves logs, and perhaps a best checkpoint.
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
    """Whether a file is the `metrics.csv` of a training, or has no content yet.

    A column appears with its first value: of a run that was killed at its first step, only learning rates.
    """
    text = read_beginning(path).decode(errors="replace")
    columns = text.partition("\n")[0].strip().split(",")
    return not text or ("step" in columns and any(OWN_COLUMN.fullmatch(column) for column in columns))


def behind(saved: dict[str, Any]) -> tuple[int, int]:
    """Whole epochs that a training checkpoint has behind it, and batches of the next one (`max_steps` ended it)."""
    loop = saved["loops"]["fit_loop"]
    epoch, batch = loop["epoch_progress"]["current"], loop["epoch_loop.batch_progress"]["current"]
    return epoch["processed"], batch["completed"] if epoch["processed"] < epoch["started"] else 0


def is_finished(saved: dict[str, Any], config: Config) -> bool:
    """Whether a training checkpoint is the last one of a training with these settings."""
    steps, limit = saved["global_step"], config.training.max_steps
    return bool(behind(saved)[0] >= config.training.epochs or 0 < limit <= steps)


def belongs_to(name: str, groups: Iterable[str]) -> str:
    """The longest of the groups that a setting belongs to, or is; empty: none."""
    return max((group for group in groups if name == group or name.startswith(group + ".")), key=len, default="")


def check_settings(config: Config, saved: dict[str, Any], path: Path) -> None:
    """Raise UserError for settings that the run of a checkpoint has to keep; name others that differ in a warning.

    Whatever passes is obeyed by the rest of the training.
    """
    before = flatten(from_dict(saved.get("config", {}), source=str(path)))
    changed = {name: value for name, value in flatten(config).items() if value != before[name]}
    kept = [name for name in changed if is_kept(name, before[name], changed[name])]
    if kept:
        values = ", ".join(f"{name} is {changed[name]} and was {before[name]}" for name in kept)
        raise UserError(
            f"{values} in {path}: a resumed run keeps {'it' if len(kept) == 1 else 'them'}; set the old value, or "
            "begin another run, for instance with these weights as training.init_from"
        )
    if behind(saved)[1] and "data.batch_size" in changed:
        raise UserError(
            f"data.batch_size: {changed['data.batch_size']}, but training.max_steps ended {path} within an epoch that "
            f"is shared out in batches of {before['data.batch_size']}; keep that until another epoch has ended"
        )
    obeyed = [name for name in changed if not belongs_to(name, HARMLESS)]
    if obeyed and first_process():
        values = ", ".join(f"{name} ({before[name]} -> {changed[name]})" for name in obeyed)
        warnings.warn(f"{path}: trained with other settings until here: {values}", stacklevel=3)


def is_kept(name: str, before: Any, now: Any) -> bool:
    """Whether a resumed run has to keep the setting `name` from changing like this."""
    if name in KEPT_IN_PART:
        return bool(KEPT_IN_PART[name](before) != KEPT_IN_PART[name](now))
    return belongs_to(name, (*KEPT, *HARMLESS, *OBEYED)) in KEPT


def prepare_work_directory(work_dir: Path, start: Path, config: Config, saved: dict[str, Any]) -> None:
    """Make room for a run that goes on from `start`: nothing of before is overwritten or taken for its own.

    `metrics.csv` becomes `metrics.1.csv`, because the logger begins a new file. Checkpoints of later epochs than
    `start`, and a best one whose F1 cannot be compared with what comes, move to the folder `checkpoints/before_1`.
    Where 1 is taken, the next free number stands in its place.
    """
    metrics = work_dir / "metrics.csv"
    if metrics.exists():
        metrics.rename(unused(work_dir, "metrics.{}.csv"))
    folder = work_dir / "checkpoints"
    if not is_of_run(start, work_dir):
        return
    others = [path for path in folder.glob(LAST_PATTERN) if epoch_number(path) > saved["epoch"]]
    old = flatten(from_dict(saved.get("config", {}), source=str(start)))
    scored = any(value != old[name] and belongs_to(name, VALIDATION) for name, value in flatten(config).items())
    best = folder / "best.ckpt"
    if best.exists() and start.name != best.name and (scored or others):
        others.append(best)
    if others:
        aside = unused(folder, "before_{}")
        aside.mkdir()
        for path in others:
            path.rename(aside / path.name)
        names = ", ".join(sorted(path.name for path in others))
        warnings.warn(f"{folder}: {names} moved to {aside.name}; this run goes on from {start.name}", stacklevel=3)


def unused(folder: Path, name: str) -> Path:
    """The first path in `folder` that does not exist, with 1, 2, 3, ... in place of {} in `name`."""
    return next(path for number in itertools.count(1) if not os.path.lexists(path := folder / name.format(number)))
