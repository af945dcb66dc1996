"""Reads the settings stored in a model's file: only those that describe the model, and only in a buildable range.

The file may be hostile. Nothing in it decides where this package reads or writes: paths take their defaults, and
the name, which becomes part of file names, is restricted.
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

# Settings of the machine on which the model was trained; its file has the defaults instead.
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
    """Read the settings of a model's file (`tree`, as made by `to_dict`) without paths, and with a plain name.

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
    """Copy a Config with the defaults for all settings in `MACHINE_SETTINGS`."""
    tree, defaults = to_dict(config), to_dict(Config())
    for name in MACHINE_SETTINGS:
        *groups, leaf = name.split(".")
        branch, default = (functools.reduce(dict.__getitem__, groups, root) for root in (tree, defaults))
        branch[leaf] = default[leaf]
    return from_dict(tree)


def plain_name(name: str) -> str:
    """Remove folders, control characters and leading dots from a name, so that it is valid in file names everywhere."""
    return re.sub(r"[^\w .+-]+", "_", name).lstrip(".")[:MAX_NAME_LENGTH].strip()
