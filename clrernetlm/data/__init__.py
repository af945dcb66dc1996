"""The names of `clrernetlm.datasets`, under the name it had before version 0.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from clrernetlm.datasets.alaug import Alaug
    from clrernetlm.datasets.build import build_dataset
    from clrernetlm.datasets.check import check_data
    from clrernetlm.datasets.culane import CulaneDataset, collate
    from clrernetlm.datasets.lane_formatting import PackCLRNetInputs
    from clrernetlm.datasets.lanelm_formatting import PackLaneLMInputs
    from clrernetlm.datasets.transforms import Compose, CropResize

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "Alaug": "clrernetlm.datasets.alaug",
        "Compose": "clrernetlm.datasets.transforms",
        "CropResize": "clrernetlm.datasets.transforms",
        "CulaneDataset": "clrernetlm.datasets.culane",
        "PackCLRNetInputs": "clrernetlm.datasets.lane_formatting",
        "PackLaneLMInputs": "clrernetlm.datasets.lanelm_formatting",
        "build_dataset": "clrernetlm.datasets.build",
        "check_data": "clrernetlm.datasets.check",
        "collate": "clrernetlm.datasets.culane",
    },
)
