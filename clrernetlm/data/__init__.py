"""The names of `clrernetlm.datasets`, under its former name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm import datasets

if TYPE_CHECKING:
    from clrernetlm.datasets import *  # noqa: F403

__all__ = datasets.__all__


def __getattr__(name: str) -> object:
    return getattr(datasets, name)


def __dir__() -> list[str]:
    return dir(datasets)
