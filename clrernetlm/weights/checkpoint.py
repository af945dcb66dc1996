"""Reads and writes checkpoint files: reading runs no code in them, writing is atomic."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import EXPORTED_SUFFIXES, PathLike, replacing
from clrernetlm.core.version import __version__
from clrernetlm.models.clrernet.state_dict import (
    WEIGHT_KEYS,
    load_fitting_weights,
    load_network_weights,
    network_weights,
)
from clrernetlm.weights.safetensors_file import NOT_A_CHECKPOINT, SUFFIX, read_packed
from clrernetlm.weights.torch_archive import TorchScriptError, read_torch_file

if TYPE_CHECKING:
    from clrernetlm.models.clrernet.detector import CLRerNet


def read_checkpoint(path: PathLike) -> dict[str, Any]:
    """Read the dictionary in a `.pth`, `.ckpt` or `.safetensors` file, its tensors on the CPU.

    Weights keep their type, but float16 of a packed file becomes float32: under `state_dict` in published and
    training checkpoints (and from safetensors), at the top level otherwise. `config`, in training checkpoints and
    packed files, is the tree of settings. No file can run code: objects other than tensors, numbers, strings and plain
    containers are read as `safe_unpickler.Placeholder`. Raises UserError for anything that is no checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path}: no such checkpoint; check the path")
    if path.is_dir():
        raise UserError(f"{path}: a folder, not a checkpoint; name the .pth, .ckpt or .safetensors file in it")
    if not path.is_file():
        raise UserError(f"{path}: a pipe or device, not a checkpoint; write it to a file first")
    if path.suffix in EXPORTED_SUFFIXES:
        raise UserError(f"{path}: an exported model, whose weights cannot be taken out; name the checkpoint it is from")
    try:
        checkpoint = read_packed(path) if path.suffix == SUFFIX else _read_torch(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path}: holds no dictionary of weights; save model.state_dict(), not the model itself")
    return checkpoint


def _read_torch(path: Path) -> Any:
    try:
        return read_torch_file(path)
    except OSError:
        raise
    except TorchScriptError:
        raise UserError(f"{path}: a TorchScript program, not weights; save its state_dict() instead") from None
    except Exception:  # broken bytes can make an unpickler raise anything
        raise UserError(f"{path}: {NOT_A_CHECKPOINT}") from None


def load_weights(model: CLRerNet, path: PathLike, to_train: bool = True) -> dict[str, Any]:
    """Fill `model` from a published, training or safetensors checkpoint; returns the other entries of the file.

    `to_train` as in `load_network_weights`.

    Raises UserError that names the file, the first entries that do not fit and the likely reason; the model is then
    as it was.
    """
    checkpoint = read_checkpoint(path)
    try:
        load_network_weights(model, network_weights(checkpoint), to_train)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return {key: value for key, value in checkpoint.items() if key not in WEIGHT_KEYS and not isinstance(value, Tensor)}


def start_from_weights(model: CLRerNet, path: PathLike) -> list[str]:
    """Fill `model` with the fitting weights of a checkpoint of another configuration.

    Returns the names of the weights that did not fit; a warning lists them. The backbone must fit, the pyramid and the
    head may. Raises UserError that
    names the file and the likely reason; the model is then as it was.
    """
    checkpoint = read_checkpoint(path)
    try:
        weights = network_weights(checkpoint)
        unfit = load_fitting_weights(model, weights)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if unfit:
        total = len(model.state_dict())
        parts = sorted({".".join(name.split(".")[:2]) for name in unfit})
        unused = [name for name in weights if name not in model.state_dict()]
        warnings.warn(
            f"{path}: {total - len(unfit)} of {total} weights fit this configuration; the others start afresh: "
            f"{_shortened(parts)}" + (f"; not used of the file: {_shortened(unused)}" if unused else ""),
            stacklevel=2,
        )
    return unfit


def _shortened(names: Sequence[str]) -> str:
    """Join at most eight names in one line."""
    return ", ".join(name[:60] for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def save_official(model: CLRerNet, path: PathLike, meta: dict[str, Any] | None = None) -> None:
    """Write the weights under their published names, as `{"state_dict": ..., "meta": ...}`; atomic.

    The original implementation reads the file. Raises UserError when it cannot be written.
    """
    weights = {name: value.detach().cpu().clone() for name, value in model.official_state_dict().items()}
    write_checkpoint({"meta": {"clrernetlm_version": __version__, **(meta or {})}, "state_dict": weights}, path)


def write_checkpoint(checkpoint: dict[str, Any], path: PathLike) -> None:
    """Write tensors and plain values with `torch.save`; atomic. Raises UserError when the file cannot be written."""
    # torch.save straight to a full disk raises an opaque RuntimeError; bytes written here raise OSError.
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())
