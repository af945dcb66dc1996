"""Lists the models bundled with the package, and remote ones that can be downloaded. Importing this reads no file.

To bundle a model: `clrernetlm pack CHECKPOINT clrernetlm/weights/NAME.safetensors`, then an entry in `BUNDLED` with the
SHA-256 that the command prints, and a card in docs/MODELS.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, cache_folder

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class BundledModel:
    """A packed file inside the package. Several entries may share one."""

    name: str
    file: str  # in this folder
    description: str
    sha256: str | None  # None: not fixed yet
    detector_only: bool = False  # leave LaneLM in the file alone
    licence: str = "Apache-2.0"

    @property
    def path(self) -> Path:
        """The packed file."""
        return FOLDER / self.file


@dataclass(frozen=True)
class RemoteModel:
    """A checkpoint published by others, which can be downloaded."""

    name: str  # also that of its config
    url: str
    description: str
    sha256: str | None = None  # None: not published, so a download cannot be verified
    licence: str = "see its repository"

    @property
    def file(self) -> str:
        """The file name, the last part of the address."""
        return self.url.rpartition("/")[2]

    @property
    def path(self) -> Path:
        """The file that `clrernetlm models get` writes."""
        return cache_folder() / self.file


DEFAULT = "roads"  # takes clicks
DEFAULT_DETECTOR = "roads_detector"  # for `detect`: without clicks nearly as many lanes, sharper and in less time
_ROADS = "f82949647926e8a0563a8c754d78ced55808f86cfc23cc8ec33a65ac31d555c5"
BUNDLED = {
    entry.name: entry
    for entry in (
        BundledModel("roads", "roads.safetensors", "CLRerNet and LaneLM for any camera behind the windscreen", _ROADS),
        BundledModel("roads_detector", "roads.safetensors", "the CLRerNet in roads alone", _ROADS, detector_only=True),
    )
}
# The addresses are those in the README of https://github.com/hirotomusiker/CLRerNet; no hashes are published there.
_CLRERNET = "https://github.com/hirotomusiker/CLRerNet/releases/download/v0.1.0"
REMOTE = {
    entry.name: entry
    for entry in (
        RemoteModel(
            "clrernet_culane_dla34",
            f"{_CLRERNET}/clrernet_culane_dla34.pth",
            "CLRerNet of its authors, CULane F1@50 81.11",
        ),
        RemoteModel(
            "clrernet_culane_dla34_ema",
            f"{_CLRERNET}/clrernet_culane_dla34_ema.pth",
            "the same with averaged weights, CULane F1@50 81.55",
        ),
    )
}


RANDOM = "random"  # instead of a checkpoint: random weights, for measuring and testing


@check_arguments
def weights_path(name_or_file: PathLike) -> Path:
    """Return the weights file of a model's name; other texts are paths. Raises UserError for a model not downloaded."""
    name_or_file = os.fspath(name_or_file)
    bundled = BUNDLED.get(name_or_file)
    if bundled is not None:
        return bundled.path
    path = Path(name_or_file)
    remote = next((model for model in REMOTE.values() if name_or_file in (model.name, model.file)), None)
    if remote is None or path.exists():
        return path
    if not remote.path.is_file():
        raise UserError(f"{name_or_file}: not on this machine; get it with `clrernetlm models get {remote.name}`")
    return remote.path


def model_cards() -> Path:
    """Return the file of the model cards: beside the weights in an installed package, otherwise in docs/."""
    installed = FOLDER / "MODELS.md"
    return installed if installed.is_file() else FOLDER.parents[1] / "docs" / "MODELS.md"
