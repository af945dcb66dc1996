"""Checks files that a killed command has left: complete, and equal to those of an undisturbed run."""

from __future__ import annotations

import json
import xml.etree.ElementTree
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from clrernetlm.core.files import TEMPORARY_NAME, sha256
from clrernetlm.core.images import read_image
from clrernetlm.core.overwrite_rules import RESULTS_LOG
from clrernetlm.core.video import Video
from clrernetlm.weights.checkpoint import read_checkpoint

LOGS = ("metrics", "events.out", "hparams", RESULTS_LOG)  # names of files that only grow begin so
# Entries of a training checkpoint from which training continues: weights, optimiser, schedule, counters, average.
TRAINING_STATE = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "current_model_state")


def list_files(folder: Path) -> dict[str, Path]:
    """List the files of a folder by their relative paths, without logs and locks."""
    return {
        str(path.relative_to(folder)): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(LOGS) and path.suffix != ".lock"
    }


def is_unfinished(path: Path) -> bool:
    """Check whether a file, or a folder that holds it, has the name of one that is still being written."""
    return any(TEMPORARY_NAME.match(part) or part.endswith((".part", ".tmp")) for part in path.parts)


def read_completely(path: Path) -> None:
    """Read all of a file; raises the exception of its reader if the file is incomplete."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
        ".ckpt": read_checkpoint,
        ".safetensors": read_checkpoint,
        ".npz": lambda path: {name: np.asarray(values) for name, values in np.load(path).items()},
        ".npy": lambda path: np.load(path, mmap_mode="r"),
        ".jpg": _read_image,
        ".png": _read_image,
        ".mp4": _read_video,
        ".xml": lambda path: xml.etree.ElementTree.parse(path),
        ".onnx": _read_onnx,
        ".pt2": lambda path: zipfile.ZipFile(path).testzip(),
        ".txt": _read_lines,
    }
    if path.suffix in readers:
        readers[path.suffix](path)


def are_equal_files(path: Path, other: Path) -> bool:
    """Compare two files: their bytes, or of training checkpoints the entries in `TRAINING_STATE`."""
    if path.suffix != ".ckpt":
        return sha256(path) == sha256(other)
    one, two = read_checkpoint(path), read_checkpoint(other)
    return _are_equal(*({name: held[name] for name in TRAINING_STATE if name in held} for held in (one, two)))


def _are_equal(one: Any, other: Any) -> bool:
    """Compare trees of containers, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(_are_equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_are_equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _read_onnx(path: Path) -> None:
    import onnx

    onnx.checker.check_model(onnx.load(path))


def _read_image(path: Path) -> None:
    read_image(str(path), cv2.IMREAD_COLOR)


def _read_video(path: Path) -> None:
    with Video(path) as video:
        frames = sum(1 for _ in video)
    if not frames or frames != video.count:
        raise ValueError(f"{frames} of {video.count} frames")


def _read_lines(path: Path) -> None:
    text = path.read_text()
    if text and not text.endswith("\n"):
        raise ValueError("the last line has no end")
