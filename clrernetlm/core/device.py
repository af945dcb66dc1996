"""Selects the device for computing by its name."""

from __future__ import annotations

import torch

from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError


def select_device(name: str) -> torch.device:
    """Select a device by name: `cpu`, `cuda`, `cuda:1`, `mps`, or `auto` (the fastest available).

    Raises UserError for another name and for a device that this machine does not have.
    """
    if not isinstance(name, str):
        raise UserError(f"device: {short_repr(name)} is no name; use auto, cpu, cuda, cuda:N or mps")
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    kind, _, index = name.partition(":")
    if kind not in available or (index and not index.isdecimal()):
        raise UserError(f"device: '{name}' is unknown; use auto, cpu, cuda, cuda:N or mps")
    if int(index or 0) >= available[kind]:
        raise UserError(f"device: PyTorch finds no {name} on this machine; use cpu, or auto for the best there is")
    return torch.device(name)
