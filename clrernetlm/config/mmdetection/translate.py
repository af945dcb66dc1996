"""Translates MMDetection configs of CLRerNet setting by setting.

The files are parsed, never run (`parser`). Lists of typed dicts (pipelines, hooks, schedulers) are keyed by their type,
so that every value has a dotted name, such as `train_dataloader.dataset.pipeline.albumentation.HorizontalFlip.p`.
`tables` translates each name; a name in no table is reported as not understood.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clrernetlm.config.mmdetection import tables as tables
from clrernetlm.config.mmdetection.expressions import NotUnderstood
from clrernetlm.config.mmdetection.parser import is_mmdetection, parse_file
from clrernetlm.config.schema import Config, TrainingConfig
from clrernetlm.config.serialization import decode, describe, from_dict, setting_types, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import Viewport

__all__ = ["MmdetectionImport", "import_mmdetection", "is_mmdetection"]

TRAIN = "train_dataloader.dataset"
AUGMENTATION = f"{TRAIN}.pipeline.albumentation"
MAX_WARNINGS = 200


@dataclass
class MmdetectionImport:
    """A translated config.

    `mapped`: (MMDetection's name, name of the setting, value); `not_understood`: (MMDetection's name or place, reason)
    of settings that have no effect, although they may matter. `files`: the config and its `_base_` files.
    """

    path: Path
    files: list[Path] = field(default_factory=list)
    config: Config = field(default_factory=Config)
    mapped: list[tuple[str, str, Any]] = field(default_factory=list)
    not_understood: list[tuple[str, str]] = field(default_factory=list)

    def warn(self) -> None:
        """Warn of each setting that was not understood."""
        for name, reason in self.not_understood[:MAX_WARNINGS]:
            warnings.warn(f"{self.path.name}: {name}: {reason}", stacklevel=2)
        more = len(self.not_understood) - MAX_WARNINGS
        if more > 0:
            warnings.warn(f"{self.path.name}: {more} more settings were not understood", stacklevel=2)


def import_mmdetection(path: str | Path) -> MmdetectionImport:
    """Translate an MMDetection 3.x (or 2.x) config of CLRerNet.

    Raises UserError when the file or a `_base_` cannot be parsed, or when its model is not CLRerNet.
    """
    path = Path(path).resolve()
    files: list[Path] = []
    parsed = parse_file(path, files=files)
    helpers = {
        name
        for name in parsed.values
        if name not in tables.KEYS and name in parsed.referenced | tables.HELPER_VARIABLES
    }
    tree = {name: value for name, value in parsed.values.items() if name not in helpers}
    try:
        theirs = _renamed(_flatten(_keyed_by_type(tree)))
    except RecursionError:
        raise UserError(f"{path}: a value contains itself; write it out") from None
    return _Translation(MmdetectionImport(path, files, not_understood=list(parsed.notes)), theirs).run()


class _Translation:
    """Removes the dotted names of one config from a list, table by table; names that remain were not understood."""

    def __init__(self, result: MmdetectionImport, theirs: dict[str, Any]) -> None:
        self.theirs = theirs
        self.left = dict(theirs)
        self.result = result
        self.settings: dict[str, tuple[Any, str]] = {}  # our name -> value, their name

    def run(self) -> MmdetectionImport:
        """Translate all settings; returns the import with its config."""
        self._check_model()
        self._drop_unknown_values()
        for theirs, (ours, convert) in tables.MAPPED.items():
            if theirs in self.left:
                value = self.left.pop(theirs)
                try:
                    self._set(ours, convert(value), theirs)
                except (TypeError, ValueError, LookupError):
                    self._refuse(theirs, f"{_short(value)} is not {describe(setting_types()[ours])}")
        self._lists_and_root()
        self._viewport()
        self._omitted_settings()
        self._evaluation_pipelines()
        self._schedule()
        for theirs in list(self.left):
            self._fixed_or_ignored(theirs)
        for theirs, value in self.left.items():
            self._refuse(theirs, f"{_short(value)} has no counterpart here")
        self._build()
        return self.result

    def _check_model(self) -> None:
        kind = self.theirs.get("model.type")
        if kind not in (None, "CLRerNet"):
            raise UserError(f"{self.result.path}: model.type is {kind!r}; only CLRerNet configs can be imported")
        if kind is None:
            self._refuse("model", "no type is given; CLRerNet with its published values is used")

    def _drop_unknown_values(self) -> None:
        for theirs, value in list(self.left.items()):
            if isinstance(value, NotUnderstood):
                del self.left[theirs]
                self._refuse(theirs, value.reason)

    def _set(self, ours: str, value: Any, theirs: str) -> None:
        """Set setting `ours` to the value of MMDetection's `theirs`; of two different values the first counts."""
        try:
            value = decode(setting_types()[ours], value, ours)
        except UserError as error:
            self._refuse(theirs, str(error))
            return
        earlier, source = self.settings.setdefault(ours, (value, theirs))
        if earlier != value:
            self._refuse(theirs, f"{_short(value)} differs from {source} = {_short(earlier)}, which is used")
            return
        self.result.mapped.append((theirs, ours, value))

    def _refuse(self, theirs: str, reason: str) -> None:
        self.result.not_understood.append((theirs, reason))

    def _lists_and_root(self) -> None:
        """Translate lists, relative to the working directory in MMDetection, to paths relative to one data root."""
        roots = [self.left.pop(f"{split}_dataloader.dataset.data_root", None) for split in ("train", "val", "test")]
        root = next((root for root in roots if isinstance(root, str)), None)
        for split, other in zip(("train", "val", "test"), roots, strict=True):
            if other is not None:
                self._set("data.root", other, f"{split}_dataloader.dataset.data_root")
        for theirs, ours in tables.PATHS.items():
            value = self.left.pop(theirs, None)
            if isinstance(value, str) and root is not None and not os.path.isabs(value):
                value = Path(os.path.relpath(value, root)).as_posix()
            if value is not None:
                self._set(ours, value, theirs)

    def _viewport(self) -> None:
        """Convert the crop in pixels of the original frame to fractions of it."""
        width = self.theirs.get("model.test_cfg.ori_img_w", 1640)
        height = self.theirs.get("model.test_cfg.ori_img_h", 590)
        cut = self.left.pop("model.test_cfg.cut_height", None)
        crop = {side: self.left.pop(f"{AUGMENTATION}.Crop.{side}", None) for side in tables.CROP_SIDES}
        if {"model.test_cfg.ori_img_w", "model.test_cfg.ori_img_h"} <= self.theirs.keys():
            self._set("evaluation.image_size", (width, height), "model.test_cfg.ori_img_w, ori_img_h")
        has_pipeline = any(name.startswith(f"{AUGMENTATION}.") for name in self.theirs)
        try:
            for side, (ours, whole) in tables.CROP_SIDES.items():
                size = width if side.startswith("x") else height
                if crop[side] is not None:
                    self._set(ours, crop[side] / size, f"{AUGMENTATION}.Crop.{side}")
                elif has_pipeline:
                    self._set(ours, whole, AUGMENTATION)
            if cut is not None:
                self._set("model.viewport.top", cut / height, "model.test_cfg.cut_height")
        except (TypeError, ArithmeticError):
            self._refuse(
                f"{AUGMENTATION}.Crop", f"{_short(crop)} of {_short(width)}x{_short(height)} is not a crop in pixels"
            )

    def _omitted_settings(self) -> None:
        """Switch off augmentations and losses that an MMDetection config disables by omission."""
        if any(name.startswith(f"{AUGMENTATION}.") for name in self.theirs):
            for kind, ours in tables.AUGMENTATIONS.items():
                name = f"{AUGMENTATION}.{kind}"
                self.left.pop(name, None)  # one without arguments is a name without a value
                if ours not in self.settings:
                    present = any(other == name or other.startswith(name + ".") for other in self.theirs)
                    self._set(ours, 0.5 if present else 0.0, name)  # 0.5: the default of albumentations
        if f"{TRAIN}.type" in self.theirs:
            self.settings.setdefault("data.diff_file", (None, TRAIN))
        for name in ("model.bbox_head.loss_seg", "optim_wrapper.clip_grad"):
            if name in self.left and self.left[name] is None:
                ours = "model.loss.seg_weight" if name.endswith("loss_seg") else "training.clip_norm"
                self._set(ours, None if ours.endswith("clip_norm") else 0.0, name)
                del self.left[name]

    def _evaluation_pipelines(self) -> None:
        """Accept pipelines of validation and test that equal that of training: there is one viewport for all."""
        for split in ("val", "test"):
            prefix = f"{split}_dataloader.dataset.pipeline."
            for name in [name for name in self.left if name.startswith(prefix)]:
                twin = f"{TRAIN}.pipeline.{name.removeprefix(prefix)}"
                if self.theirs.get(twin, self.left[name]) == self.left[name]:
                    del self.left[name]

    def _schedule(self) -> None:
        """Translate a cosine over all epochs that ends at 0, or at the learning rate itself: a constant rate.

        Other ends and lengths have no counterpart.
        """
        rate = self.settings.get("training.learning_rate", (TrainingConfig().learning_rate, ""))[0]
        for name in tables.LOWEST_RATES:
            if name in self.left and self.left[name] == rate:
                del self.left[name]
                self._set("training.schedule", "constant", name)
        epochs = self.settings.get("training.epochs", (None, ""))[0]
        for name in tables.SCHEDULE_ENDS:
            if name in self.left and self.left[name] == epochs:
                del self.left[name]

    def _fixed_or_ignored(self, theirs: str) -> None:
        value = self.left[theirs]
        if theirs in tables.FIXED:
            del self.left[theirs]
            supported = tables.FIXED[theirs]
            if value not in supported:
                self._refuse(theirs, f"{_short(value)} is not supported; it is always {_short(supported[0])} here")
        elif any(re.fullmatch(pattern, theirs) for pattern in tables.IGNORED):
            del self.left[theirs]

    def _build(self) -> None:
        tree = to_dict(Config(name=self.result.path.stem))
        for ours, (value, _) in self.settings.items():
            *groups, leaf = ours.split(".")
            branch = tree
            for group in groups:
                branch = branch[group]
            branch[leaf] = value
        try:
            Viewport(**tree["model"]["viewport"])
        except UserError as error:
            self._refuse("model.viewport", f"{error}; CULane's is used")
            tree["model"]["viewport"] = to_dict(Viewport())
        self.result.config = from_dict(tree)


def _keyed_by_type(value: Any) -> Any:
    """Convert lists of `dict(type=...)` to dicts by type, a repeated type as `Resize#2`, at any depth."""
    if isinstance(value, dict):
        return {key: _keyed_by_type(item) for key, item in value.items()}
    if not (isinstance(value, list | tuple) and value and all(isinstance(x, dict) and "type" in x for x in value)):
        return value
    keyed: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    for item in value:
        kind = name = _kind(item)
        while name in keyed:
            counts[kind] += 1
            name = f"{kind}#{counts[kind] + 1}"
        keyed[name] = {key: _keyed_by_type(entry) for key, entry in item.items() if key != "type"} or None
    return keyed


def _kind(item: dict[str, Any]) -> str:
    """Return the type of a dict, of a choice with its options: `OneOf(MedianBlur|MotionBlur)`."""
    options = item.get("transforms")
    if item["type"] != "OneOf" or not isinstance(options, list | tuple):
        return str(item["type"])
    return f"OneOf({'|'.join(sorted(str(option.get('type')) for option in options if isinstance(option, dict)))})"


def _flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Flatten nested dicts to {dotted name: value}, without the wrapper level `pipelines`/`transforms` of pipelines."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    leaves: dict[str, Any] = {}
    for key, item in value.items():
        inner = name if key in ("pipelines", "transforms") else f"{name}.{key}" if name else str(key)
        leaves |= _flatten(item, inner)
    return leaves


def _renamed(leaves: dict[str, Any]) -> dict[str, Any]:
    """Rename names of MMDetection 2.x to those of 3.x; an old name beside a new one of another value is kept."""
    renamed: dict[str, Any] = {}
    for name, value in leaves.items():
        new = _modern(name)
        renamed[name if leaves.get(new, value) != value else new] = value
    return renamed


def _modern(name: str) -> str:
    for old, new in tables.RENAMED.items():
        if name == old or name.startswith(old + "."):
            return new + name.removeprefix(old)
    return name


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        text = "a number of thousands of digits"
    return text if len(text) <= 60 else text[:57] + "..."
