"""Describes the origin of a predictor's model and its computed state in a form that can be pickled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from clrernetlm.core.viewport import Viewport
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.weights.registry import RANDOM


@dataclass(frozen=True)
class ModelSource:
    """Everything a model was made from besides its settings, so that another process can make it again."""

    checkpoint: str  # absolute path, or `RANDOM`
    device: str
    backend: Backend | None
    precision: str
    compiled: bool
    trust_code: bool
    files: tuple[tuple[str, int, int], ...]  # path, bytes, time of the last change in ns
    random_state: Tensor | None  # of PyTorch before random weights were drawn; None: no random weights


def file_stamps(checkpoint: str) -> tuple[tuple[str, int, int], ...]:
    """List (path, bytes, time of the last change in ns) of a model's files; of all files of an exported folder."""
    if checkpoint == RANDOM:
        return ()
    path = Path(checkpoint)
    files = sorted(path.iterdir()) if path.is_dir() else [path, path.with_suffix(".bin")]
    found = [(str(file), file.stat()) for file in files if file.is_file()]
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def to_arrays(value: Any) -> Any:
    """Replace the tensors in dataclasses, dicts, lists and tuples by NumPy arrays, for pickles."""
    return _map_leaves(value, lambda leaf: leaf.cpu().numpy().copy() if isinstance(leaf, Tensor) else leaf)


def to_tensors(value: Any, device: torch.device) -> Any:
    """Replace NumPy arrays by tensors on a device: the inverse of `to_arrays`."""
    return _map_leaves(value, lambda leaf: torch.from_numpy(leaf).to(device) if isinstance(leaf, np.ndarray) else leaf)


def _map_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    if is_dataclass(value) and not isinstance(value, type | Viewport | FrameCrop):
        return type(value)(*(_map_leaves(getattr(value, item.name), change) for item in fields(value)))
    if isinstance(value, dict):
        return {key: _map_leaves(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_map_leaves(item, change) for item in value)
    return change(value)
