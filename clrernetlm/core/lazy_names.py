"""Lazy names of packages: the module that defines a name is imported at its first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_names(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Make the `__getattr__` and `__dir__` of a package that exports names of other modules.

    `homes`: name -> the module that defines it, such as `clrernetlm.core.lane`. The module is imported at the first
    access to the name, because importing PyTorch takes seconds.
    """

    def get(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    def names() -> list[str]:
        return sorted({*homes, *vars(sys.modules[package])})

    return get, names
