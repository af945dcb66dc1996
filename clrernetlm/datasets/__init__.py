"""Data sets: read, augmented, packed for training. Names load on first use, because torch is slow to import."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clrernetlm.datasets.alaug import Alaug
    from clrernetlm.datasets.check import check_data
    from clrernetlm.datasets.culane import CulaneDataset, build_dataset, collate
    from clrernetlm.datasets.lane_formatting import PackCLRNetInputs
    from clrernetlm.datasets.lanelm_formatting import PackLaneLMInputs
    from clrernetlm.datasets.transforms import Compose, CropResize

_HOME = {
    "Alaug": "transforms",
    "Compose": "transforms",
    "CropResize": "transforms",
    "CulaneDataset": "culane",
    "PackCLRNetInputs": "formatting",
    "PackLaneLMInputs": "lanelm_formatting",
    "build_dataset": "culane",
    "check_data": "inspection",
    "collate": "culane",
}

__all__ = [
    "Alaug",
    "Compose",
    "CropResize",
    "CulaneDataset",
    "PackCLRNetInputs",
    "PackLaneLMInputs",
    "build_dataset",
    "check_data",
    "collate",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
