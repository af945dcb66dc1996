"""Reads and writes packed models: one safetensors file with a model's weights and all its settings.

The settings are in the file's metadata, under the key `clrernetlm`, as JSON: `format` (1), `clrernetlm_version` and
`config`, the tree of `config.serialization.to_dict`; the confidence thresholds are among them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from clrernetlm.config import Config, to_dict
from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, replacing
from clrernetlm.core.overwrite_rules import read_beginning
from clrernetlm.core.version import __version__

Precision = Literal["fp16", "fp32"]
SUFFIX = ".safetensors"
KEY = "clrernetlm"
FORMAT = 1
# Tensors with fewer values stay in float32: together they are a hundredth of a model, and among them are anchors,
# where half a pixel counts, and BatchNorm's variances, which may be tiny.
SMALL = 4096
MAX_HEADER = 1 << 21  # bytes, enough for 20,000 tensors
NOT_A_CHECKPOINT = "not a checkpoint, or cut short; get the file again"


def write_packed(weights: Mapping[str, Tensor], config: Config, path: PathLike, precision: Precision = "fp16") -> None:
    """Write weights and settings; atomic. The same arguments give the same bytes.

    fp16 rounds float tensors of `SMALL` values or more. Raises UserError for a value beyond float16's range, and when
    the file cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: _stored(name, value, precision) for name, value in weights.items()}
    # One key only: safetensors writes several in an order that changes from run to run.
    metadata = {"format": FORMAT, "clrernetlm_version": __version__, "config": to_dict(config)}
    content = save(tensors, metadata={KEY: json.dumps(metadata, sort_keys=True)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def is_packed(path: Path) -> bool:
    """Check whether `write_packed` wrote a file."""
    # 8 bytes: the length of the header that follows.
    return read_beginning(path)[8:].startswith(f'{{"__metadata__":{{"{KEY}":'.encode())


def _stored(name: str, value: Tensor, precision: Precision) -> Tensor:
    value = value.detach().cpu().contiguous().clone()
    if precision == "fp32" or not value.is_floating_point() or value.numel() < SMALL:
        return value
    half = value.half()
    if not half.isfinite().all():
        raise UserError(f"{name}: values beyond the range of fp16, or not finite; use `precision=fp32`")
    return half


def read_packed(path: PathLike) -> dict[str, Any]:
    """Read a safetensors file as `{"state_dict": ...}`, a packed one also with `config` and `clrernetlm_version`.

    float16 becomes float32. No code in the file can run. Raises UserError for a broken file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            metadata = _parse_metadata(path, file.metadata())
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError:
        raise UserError(f"{path}: {NOT_A_CHECKPOINT}") from None
    half = torch.float16
    return {
        "state_dict": {name: value.float() if value.dtype == half else value for name, value in weights.items()}
    } | {key: metadata[key] for key in ("config", "clrernetlm_version") if key in metadata}


def read_settings(path: PathLike) -> dict[str, Any] | None:
    """Read the tree of settings in a packed file, without its weights; None for any other safetensors file.

    Raises UserError for a broken file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="pt") as file:
            return _parse_metadata(path, file.metadata()).get("config")
    except SafetensorError:
        raise UserError(f"{path}: {NOT_A_CHECKPOINT}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None


def _check_header(path: PathLike) -> None:
    """Raise UserError for a header (tensors' names and settings) of more than `MAX_HEADER` bytes; usual: 0.1 MB."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path}: a folder, pipe or device, not a checkpoint; check the path")
    with open(path, "rb") as file:
        if int.from_bytes(file.read(8), "little") > MAX_HEADER:
            raise UserError(f"{path}: {NOT_A_CHECKPOINT}")


def _parse_metadata(path: PathLike, metadata: Mapping[str, str] | None) -> dict[str, Any]:
    """Parse the metadata of a packed file; empty for a foreign one. Raises UserError if it cannot be read."""
    text = (metadata or {}).get(KEY)
    if text is None:
        return {}
    try:
        metadata = json.loads(text)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("config"), dict):
        raise UserError(f"{path}: metadata.{KEY}: not readable; pack the file again with `clrernetlm pack`")
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path}: packed in format {short_repr(metadata.get('format'))}, this version reads {FORMAT}; "
            "update clrernetlm"
        )
    return metadata
