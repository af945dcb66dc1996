"""Unpickling that builds tensors and plain containers, and turns everything else into inert objects.

A pickle names the functions it wants called. Here only the few that rebuild tensors exist; every other name,
`os.system` as well as a harmless class of a training engine, becomes `Inert`: nothing is imported, nothing is run, and
the rest of the file can still be read. The module has the face of `pickle` that `torch.load(pickle_module=...)`
asks for.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

UnpicklingError = pickle.UnpicklingError


class Inert:
    """Stands for any object of a class that is not read; takes whatever a pickle does to an object, and forgets it."""

    __slots__ = ("__weakref__",)

    def __new__(cls, *args: Any, **kwargs: Any) -> Inert:
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def _ignore(self, *args: Any, **kwargs: Any) -> None: ...

    __setstate__ = __setitem__ = append = extend = add = _ignore

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:
        return Inert()

    def __repr__(self) -> str:
        return "<not read>"


class _Builder:
    """A function that pickles may call, without the attributes through which a pickle could change the function."""

    __slots__ = ("_build",)
    _build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "_build", build)

    def __setattr__(self, name: str, value: Any) -> None:
        raise UnpicklingError(f"a builder has no {name} to change")

    def __call__(self, *args: Any) -> Any:
        return self._build(*args)


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *unused: Any) -> Tensor:
    """A view of a storage; gradient flags and hooks of the file are left behind. PyTorch checks the bounds."""
    tensor = torch.empty((0,), dtype=storage.dtype, device=storage.device)
    return tensor.set_(storage._untyped_storage, offset, tuple(size), tuple(stride))


def _parameter(data: Tensor, *unused: Any) -> Tensor:
    return data


_ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Builder(OrderedDict),
    ("torch._utils", "_rebuild_tensor"): _Builder(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Builder(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Builder(_parameter),
    ("torch", "Size"): _Builder(torch.Size),
    ("torch", "device"): _Builder(torch.device),
}


class Unpickler(pickle.Unpickler):
    """`pickle.Unpickler` that looks names up in a fixed list and never imports."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        return _ALLOWED.get((module_name, global_name), Inert)


def load(file: BinaryIO, **options: Any) -> Any:
    """The object in `file`, read by `Unpickler`."""
    return Unpickler(file, **options).load()
