"""Resolves a config, a model's name or a file to settings and a weights file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from clrernetlm.config import Config, load_config
from clrernetlm.config.loading import is_config, project_configs
from clrernetlm.config.overrides import apply_overrides
from clrernetlm.config.stored_settings import config_of_file
from clrernetlm.config.suggestions import did_you_mean
from clrernetlm.config.validation import validate
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import EXPORTED_SUFFIXES, PathLike
from clrernetlm.weights.checkpoint import read_checkpoint
from clrernetlm.weights.exported_metadata import DETECTOR_PART, read_metadata
from clrernetlm.weights.registry import BUNDLED, DEFAULT, RANDOM, REMOTE, BundledModel, RemoteModel, weights_path
from clrernetlm.weights.safetensors_file import SUFFIX, read_settings

WEIGHT_SUFFIXES = (SUFFIX, ".ckpt", ".pth", ".pt", *EXPORTED_SUFFIXES)


def is_model_name(text: str) -> bool:
    """Check whether `text` names a bundled model or a weights file, not a config."""
    return text in BUNDLED or Path(text).suffix in WEIGHT_SUFFIXES or exported_file(text) is not None


def has_weights(text: str) -> bool:
    """Check whether `text` names a model with weights on this machine, so that it needs no checkpoint beside it."""
    remote = REMOTE.get(text)
    return is_model_name(text) or (remote is not None and remote.path.is_file())


def resolve_model(
    config: Config | PathLike | None, checkpoint: PathLike | None = None, overrides: Sequence[str] = ()
) -> tuple[Config, str]:
    """Resolve a config, a checkpoint or both to settings and a weights file, or `RANDOM`.

    `config`: a Config, a config's path or name, a model's name or file, or None for the settings in `checkpoint`;
    both None: the default model. `checkpoint`: a weights file, what `clrernetlm export` wrote, a model's name, or
    `random`. Every function and command that needs weights uses this function. `overrides` as in `find_model`.

    Raises UserError as `find_model` and `load_config` do, and for a config without a checkpoint.
    """
    if checkpoint is None and (config is None or not isinstance(config, Config)):
        text = DEFAULT if config is None else os.fspath(config)
        if is_model_name(text) or text in REMOTE or not is_config(text):
            return find_model(text, overrides)
    if checkpoint is None:
        name = (config.name or "Config") if isinstance(config, Config) else config
        raise UserError(
            f"checkpoint: missing; {name} is a configuration, which holds no weights: name their file, a model "
            f'({_names()}) instead of both, or "{RANDOM}"'
        )
    weights = os.fspath(checkpoint)
    if config is None:
        if weights == RANDOM:
            raise UserError(f"checkpoint: {RANDOM} weights need a config; name one")
        return find_model(weights, overrides)
    if weights != RANDOM:
        weights = str(weights_path(weights))
    if isinstance(config, Config):
        return apply_overrides(config, overrides) if overrides else config, weights
    text = os.fspath(config)
    if text in BUNDLED:
        raise UserError(f"{text}: a model with weights of its own; leave the checkpoint out, or name a config")
    return load_config(text, overrides), weights


def find_model(name_or_file: PathLike = DEFAULT, overrides: Sequence[str] = ()) -> tuple[Config, str]:
    """Find the settings and the weights file of a model.

    `name_or_file`: a bundled model, a downloaded remote one, a packed file, a training checkpoint, or a
    released .pth under its own name. `overrides` are texts such as `model.viewport.top=0.5`. Downloads nothing.

    Raises UserError for an unknown name, for weights that are not on this machine (saying how to get them), and for a
    file without settings.
    """
    text = os.fspath(name_or_file)
    bundled, remote = BUNDLED.get(text), REMOTE.get(text) or REMOTE.get(Path(text).stem)
    if bundled is not None:
        config, path = _bundled_config(bundled), bundled.path
    elif Path(text).exists():
        path = Path(text)
        stored = stored_config(path) or (_remote_config(remote) if remote else None)
        if stored is None:
            raise UserError(f"{text}: weights without settings; name the config too: CONFIG {text}")
        config = stored
    elif remote is not None and text in (remote.name, remote.file):
        config, path = _remote_config(remote), weights_path(text)
    elif Path(text).suffix in WEIGHT_SUFFIXES:
        raise UserError(f"{text}: no such checkpoint; check the path, or use one of {_names()}")
    else:
        hint = (
            did_you_mean(text, [*BUNDLED, *REMOTE])
            or did_you_mean(text, project_configs())
            or f"; use a weights file or one of {_names()}"
        )
        raise UserError(f"{text}: no such model{hint}")
    name = config.name or path.stem
    config = apply_overrides(config, overrides)
    config.name = config.name or name
    validate(config)
    return config, str(path)


def stored_config(path: PathLike) -> Config | None:
    """Read the settings in a packed file or training checkpoint, without paths; None when it holds none.

    Raises UserError, also for settings out of range.
    """
    path = Path(path)
    if (file := exported_file(path)) is not None:
        metadata = read_metadata(file)
        if file == path and metadata.part == DETECTOR_PART:  # also out of the folder of a LaneLM
            metadata.config.task = "clrernet"
        return metadata.config
    if path.suffix == SUFFIX and path.is_file():
        tree = read_settings(path)
    else:
        tree = read_checkpoint(path).get("config")
    return config_of_file(tree, path) if isinstance(tree, dict) else None


def exported_file(path: PathLike) -> Path | None:
    """Return the detector's file of an export, which is a file or a folder; None for anything else."""
    path = Path(path)
    files = [path / f"{DETECTOR_PART}{suffix}" for suffix in EXPORTED_SUFFIXES] if path.is_dir() else [path]
    return next((file for file in files if file.suffix in EXPORTED_SUFFIXES and file.is_file()), None)


def _bundled_config(model: BundledModel) -> Config:
    if not model.path.is_file():
        raise UserError(
            f"{model.name}: {model.path} is missing, so this copy of clrernetlm came without weights; install the "
            "released package again, or name weights of your own"
        )
    config = stored_config(model.path)
    if config is None:
        raise UserError(f"{model.path}: holds no settings; make it with `clrernetlm pack`")
    if model.detector_only:
        config.task = "clrernet"
    config.name = model.name
    return config


def _remote_config(model: RemoteModel) -> Config:
    """Load this project's config; a file of the same name beside downloaded weights could hold foreign code."""
    return load_config(project_configs()[model.name])


def _names() -> str:
    return ", ".join([*BUNDLED, *REMOTE])
