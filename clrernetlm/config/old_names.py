"""Accepts settings under the names of earlier versions: in config files, on the command line and in stored settings.

An old name in a config file or on the command line raises a warning of one line with the new name. Settings in
checkpoints and packed weights are converted silently: such files load as they are and need no change.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, get_type_hints

# Dotted name of earlier versions -> today's. The members of a renamed group follow it.
RENAMED = {
    "evaluation.semantics": "evaluation.implementation",
    "lanelm.decode.detector_share": "lanelm.decode.detector_score_weight",
    "lanelm.decode.rounds": "lanelm.decode.refinement_rounds",
    "lanelm.kind": "lanelm.variant",
    "lanelm.lessons": "lanelm.training_requests",
    "lanelm.lessons.invented": "lanelm.training_requests.synthetic_proposals",
    "lanelm.lessons.question_noise": "lanelm.training_requests.proposal_noise",
    "lanelm.lessons.unasked": "lanelm.training_requests.prompt_only",
    "lanelm.network.question_stride": "lanelm.network.proposal_stride",
    "lanelm.network.sees_past": "lanelm.network.autoregressive",
    "lanelm.views": "lanelm.cached_augmentations",
    "model.assigner.rescue_unmatched": "model.assigner.assign_unmatched",
    "training.backbone_rate": "training.backbone_lr_scale",
    "training.start_from": "training.init_from",
}
# The same for classes of the schema, which config files import.
RENAMED_CLASSES = {"LaneLMLessonConfig": "LaneLMTrainingRequestsConfig"}

_OLD_NAMES = {new: old for old, new in RENAMED.items()}
# {dotted name of today's group: {old field: new field}}; also groups that only contain such groups.
_FIELDS: dict[str, dict[str, str]] = {"": {}}
for _old, _new in RENAMED.items():
    _group, _, _field = _new.rpartition(".")
    for _end in [i for i, _letter in enumerate(_group) if _letter == "."] + [len(_group)]:
        _FIELDS.setdefault(_group[:_end], {})
    if _field != _old.rpartition(".")[2]:
        _FIELDS[_group][_old.rpartition(".")[2]] = _field


def current_name(name: str) -> str:
    """Convert the dotted name of a setting or group to today's; any other name is returned as it is."""
    group = ""
    for part in name.split("."):
        group = _join(group, _FIELDS.get(group, {}).get(part, part))
    return group


def with_current_names(tree: Any, group: str = "") -> Any:
    """Rename the keys of nested plain settings, as they are stored in files, to today's; `tree` is not changed.

    Where both names are given the old one stays, for the error about unknown settings.
    """
    if not isinstance(tree, Mapping) or group not in _FIELDS:  # others are not entered: a tree from a file may be deep
        return tree
    current: dict[Any, Any] = {}
    for key, value in tree.items():
        new = _FIELDS[group].get(key, key)
        new = key if new in tree else new
        current[new] = with_current_names(value, _join(group, str(new)))
    return current


def warn_of_old_name(old: str, new: str) -> None:
    """Warn that the setting or class `old` is now `new`; by default Python shows a warning once."""
    warnings.warn(f"{old}: old name; use {new}", stacklevel=2)


def accept_old_names(root: type) -> None:
    """Let the dataclasses below `root` take old names as constructor arguments and attributes, with a warning."""
    for group, cls in _groups(root, ""):
        renamed = _FIELDS.get(group, {})
        for old, new in renamed.items():
            setattr(cls, old, _alias(_join(group, new)))
        if renamed:
            cls.__init__ = _translating(cls.__init__, group)


def _alias(name: str) -> property:
    """Build a property that reads and sets the field of today's dotted name `name`."""
    field = name.rpartition(".")[2]

    def get(config: object) -> Any:
        warn_of_old_name(_OLD_NAMES[name], name)
        return getattr(config, field)

    def put(config: object, value: Any) -> None:
        warn_of_old_name(_OLD_NAMES[name], name)
        setattr(config, field, value)

    return property(get, put)


def _translating(init: Callable[..., None], group: str) -> Callable[..., None]:
    """Wrap the constructor of a group of settings so that it takes old names, too."""
    renamed = _FIELDS[group]

    @functools.wraps(init)
    def translated(self: object, *values: Any, **settings: Any) -> None:
        for old in renamed.keys() & settings.keys():
            new = renamed[old]
            if new in settings:
                raise TypeError(f"{old}: the old name of {new}, which is given too; leave it out")
            name = _join(group, new)
            warn_of_old_name(_OLD_NAMES[name], name)
            settings[new] = settings.pop(old)
        init(self, *values, **settings)

    return translated


def _groups(cls: Any, name: str) -> Iterator[tuple[str, Any]]:
    """List the dataclasses of the schema with the dotted names of their groups; "" for the outermost."""
    yield name, cls
    for field, annotation in get_type_hints(cls).items():
        if is_dataclass(annotation):
            yield from _groups(annotation, _join(name, field))


def _join(group: str, field: str) -> str:
    return f"{group}.{field}" if group else field
