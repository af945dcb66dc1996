"""Settings that stand in a model's file: only what describes the model, in the range of what can be built.

The file may be a stranger's. Nothing in it chooses where this package reads or writes: paths take their defaults, and
the name, which becomes part of file names, is a plain word.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import from_dict, to_dict
from clrernetlm.config.validation import validate
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike

# Settings about the machine that trained; the file of a model has the defaults instead.
MACHINE_SETTINGS = (
    "data.root",
    "data.train_list",
    "data.val_list",
    "data.test_list",
    "data.categories",
    "data.diff_file",
    "training.work_dir",
    "training.init_from",
    "training.device",
    "lanelm.detector",
    "lanelm.cache",
)
MAX_NAME_LENGTH = 100  # characters


def config_of_file(tree: dict[str, Any], path: PathLike) -> Config:
    """The settings of a model's file (`tree`, as `to_dict` made it) without paths, and with a plain name.

    Raises UserError, naming the file, for a setting that is unknown, of a wrong type or out of range.
    """
    try:
        config = strip_machine_settings(from_dict(tree))
        config.name = plain_name(config.name)
        validate(config)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return config


def strip_machine_settings(config: Config) -> Config:
    """A copy with the defaults for all settings in `MACHINE_SETTINGS`."""
    tree, defaults = to_dict(config), to_dict(Config())
    for name in MACHINE_SETTINGS:
        *groups, leaf = name.split(".")
        branch, default = (functools.reduce(dict.__getitem__, groups, root) for root in (tree, defaults))
        branch[leaf] = default[leaf]
    return from_dict(tree)


def plain_name(name: str) -> str:
    """A name without folders, control characters and dots in front: what may stand in a file name anywhere."""
    return re.sub(r"[^\w .+-]+", "_", name).lstrip(".")[:MAX_NAME_LENGTH].strip()
