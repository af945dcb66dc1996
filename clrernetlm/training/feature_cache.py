"""The frozen detector's features of all training images on disk, so that training LaneLM reads instead of computing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from clrernetlm.config import Config
from clrernetlm.config.serialization import from_dict, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.progress import progress
from clrernetlm.datasets import collate
from clrernetlm.datasets.culane import CulaneDataset, Sample, label_path
from clrernetlm.datasets.loaders import ImageLoader, limit_worker_threads, loader_workers
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.models.lanelm.proposals import Proposals

try:
    import fcntl
except ImportError:  # Windows: no waiting for one another; whoever ends first wins
    fcntl = None  # type: ignore[assignment]

BATCH = 16
LABELS = ("lane_xs", "lane_tokens_x", "lane_tokens_y")
STORED = (
    *(f"level_{i}" for i in range(PYRAMID_LEVELS)),
    "proposal_xs",
    "proposal_shown",
    "proposal_scores",
    *LABELS,
)  # names of the files
FINGERPRINT = re.compile("[0-9a-f]{16}")
DATA_SETTINGS = ("root", "train_list", "diff_file", "diff_threshold", "decode", "augmentation")


class FeatureCache:
    """Features, proposals and labels of every view of `images` images: memory-mapped `.npy` files of one folder.

    Features are in half precision: a relative error of 5e-4 at most. Worker processes, forked or spawned, map the files
    themselves. In memory there is never more than a batch: what else is resident are pages that the system drops when
    it needs them.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.folder, self.images = folder, images

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """{name: (views * images, ...)}."""
        return {name: open_array(self.folder / f"{name}.npy") for name in STORED}

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would be the whole file.
        return {"folder": self.folder, "images": self.images}

    def read(self, view: int, index: int) -> Sample:
        """One item: `level_0` (C, h, w) float16 ..., `proposal_xs`, `proposal_shown`, `proposal_scores`, labels."""
        row = view * self.images + index
        sample: Sample = {name: torch.from_numpy(np.array(array[row])) for name, array in self.arrays.items()}
        return sample | {"metainfo": {"index": index}}


def feature_cache(
    config: Config, images: CulaneDataset, model: LaneLMDetectorBase, device: torch.device | None = None
) -> FeatureCache | None:
    """The cache that `config.lanelm.cache` asks for, built on `device` unless it is there; None when none is wanted.

    Every combination of images, settings and detector has a folder of its own in `config.lanelm.cache`, which appears
    when it is complete; a damaged one is built anew, with a warning. Raises UserError when every epoch shows new views,
    and when the disk is too small.
    """
    if config.lanelm.cache is None:
        return None
    if not config.lanelm.cached_augmentations:
        raise UserError(
            "lanelm.cache: features of endless new views cannot be kept; set lanelm.cached_augmentations to 1 or more"
        )
    folder = Path(config.lanelm.cache) / fingerprint(config, images, model)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.parent)
        with only_builder(folder.with_suffix(".lock")):
            fault = None
            if folder.exists():
                fault = damage(folder, config.lanelm.cached_augmentations * len(images), row_of(images, model))
            if fault is not None:
                warnings.warn(f"{folder}: damaged ({fault}); computing the features again", stacklevel=2)
                shutil.rmtree(folder)
            if not folder.exists():
                build(config, images, model, folder, device or next(model.parameters()).device)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: features cannot be written ({reason}); free space, lower lanelm.cached_augmentations or set "
            "lanelm.cache=None"
        ) from None
    return FeatureCache(folder, len(images))


def row_of(images: CulaneDataset, model: LaneLMDetectorBase) -> dict[str, NDArray[Any]]:
    """One row of every file of a cache, computed from the first image: what shapes and types are right."""
    sample = collate([images[0]])
    tensors = detector_features(model, sample["inputs"]) | {name: sample[name] for name in LABELS}
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def damage(folder: Path, rows: int, row: dict[str, NDArray[Any]]) -> str | None:
    """Find out in which way a finished cache of `rows` rows like `row` lacks files or parts of them; None: in none.

    Looks at names, headers and sizes, not at the gigabytes behind the headers.
    """
    for name in STORED:
        path = folder / f"{name}.npy"
        if not path.is_file():
            return f"{path.name} is missing"
        try:
            array = open_array(path)
        except Exception:  # whatever bytes can make numpy raise
            return f"{path.name} is cut short or overwritten"
        if array.shape[:1] != (rows,):
            return f"{path.name} has {len(array) if array.ndim else 0} rows instead of {rows}"
        if (array.shape[1:], array.dtype) != (row[name].shape[1:], row[name].dtype):
            return f"{path.name} holds {array.dtype} of shape {array.shape[1:]}, which is not what the model computes"
    return None


def open_array(path: Path) -> NDArray[Any]:
    """Map the array of an `.npy` file into memory; raises an error for anything else, pickles and archives too."""
    return np.lib.format.open_memmap(path, mode="r")


def remove_unfinished(cache: Path) -> None:
    """Remove features that a killed process had begun to write in the folder `cache`, and no `.part` of others."""
    for part in cache.glob("*.part"):
        if not FINGERPRINT.fullmatch(part.stem):
            continue
        with suppress(OSError), only_builder(part.with_suffix(".lock"), wait=False):
            shutil.rmtree(part)


@contextmanager
def only_builder(path: Path, wait: bool = True) -> Iterator[None]:
    """Wait until no other process is in this block for the same path. The system frees it when a process is killed.

    With `wait` off: raises BlockingIOError when another process is in it, another OSError when that cannot be known.
    """
    # Not through a link, which would empty a file elsewhere; a pipe would wait for its other end.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    with open(os.open(path, flags, 0o666), "wb", buffering=0) as lock:
        if fcntl is None:
            if not wait:
                raise OSError(errno.ENOTSUP, "no locks on this system")
        elif wait:
            with suppress(OSError):  # file systems without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
        else:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def fingerprint(config: Config, images: CulaneDataset, model: LaneLMDetectorBase) -> str:
    """A digest of everything the stored features depend on; files count by size and time of their last change."""
    settings = to_dict(from_dict(to_dict(config)))  # 10 and 10.0 are the same setting
    network, data = settings["lanelm"]["network"], settings["data"]
    del settings["model"]["viewport_mode"]  # training uses the configured crop in either mode
    # The digest covers names of settings: with the name of earlier versions, their caches stay valid.
    assigner = settings["model"]["assigner"]
    assigner["rescue_unmatched"] = assigner.pop("assign_unmatched")
    facts = [
        settings["model"],
        [data[name] for name in DATA_SETTINGS],
        config.training.seed,
        config.lanelm.cached_augmentations,
        [network["num_steps"], network["nbins_x"]],
        [config.lanelm.training_requests.proposal_threshold, config.lanelm.decode.max_proposals],
        [file_facts(images, index) for index in range(len(images))],
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for tensor in model.detector.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def file_facts(images: CulaneDataset, index: int) -> list[Any]:
    """Listed path of an image, sizes and times of image and labels; files that are missing are for others to name."""
    listed = images.image_path(index)
    path = os.path.join(images.root, listed.lstrip("/"))
    facts: list[Any] = [listed]
    for file in (path, label_path(path)):
        with suppress(OSError):
            status = os.stat(file)
            facts += [status.st_size, status.st_mtime_ns]
    return facts


class _Views(Dataset[Sample]):
    """All views of all images, one after the other."""

    def __init__(self, images: CulaneDataset, views: int) -> None:
        self.images, self.views = images, views

    def __len__(self) -> int:
        return self.views * len(self.images)

    def __getitem__(self, number: int) -> Sample:
        view, index = divmod(number, len(self.images))
        self.images.set_epoch(view)
        return self.images[index]


def build(config: Config, images: CulaneDataset, model: LaneLMDetectorBase, folder: Path, device: torch.device) -> None:
    """Run the detector over all views; `folder` appears in one step, what a killed run left is overwritten."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    home = next(model.parameters()).device
    try:
        model.to(device)
        write_features(config, images, model, part)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        model.to(home)


def write_features(config: Config, images: CulaneDataset, model: LaneLMDetectorBase, folder: Path) -> None:
    """One `.npy` file per entry of a sample, written from the first row to the last."""
    rows = config.lanelm.cached_augmentations * len(images)
    loader = ImageLoader(
        _Views(images, config.lanelm.cached_augmentations),
        batch_size=BATCH,
        collate_fn=collate,
        num_workers=loader_workers(config.data.num_workers),
        worker_init_fn=limit_worker_threads,
        generator=torch.Generator(),  # its own: the first weights must not depend on whether features were there
    )
    files: dict[str, BinaryIO] = {}
    with ExitStack() as stack:
        for batch in progress(loader, "Features"):
            tensors = detector_features(model, batch["inputs"]) | {name: batch[name] for name in LABELS}
            arrays = {name: np.ascontiguousarray(tensor.cpu().numpy()) for name, tensor in tensors.items()}
            if not files:
                size = sum(array.nbytes // len(array) for array in arrays.values())
                check_space(folder, size * len(images), config)
                for name, array in arrays.items():
                    files[name] = stack.enter_context(open(folder / f"{name}.npy", "wb"))
                    write_header(files[name], array, rows)
            for name, array in arrays.items():
                files[name].write(array.data)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())


def check_space(folder: Path, view: int, config: Config) -> None:
    """Raise UserError at once when the features, `view` bytes for every view, will not fit."""
    needed, limit = view * config.lanelm.cached_augmentations / 1e9, config.lanelm.cache_limit
    free = shutil.disk_usage(folder).free / 1e9
    if limit is not None and needed > limit:
        fit = int(limit * 1e9 / view)
        way = f"lower lanelm.cached_augmentations to {fit}" if fit else "set lanelm.cache=None"
        raise UserError(f"lanelm.cache_limit: features need {needed:.3g} GB, not {limit:g}; raise it, or {way}")
    if needed > free:
        raise UserError(
            f"{folder.parent}: features need {needed:.1f} GB, {free:.1f} GB are free; free space, lower "
            "lanelm.cached_augmentations or set lanelm.cache=None"
        )


def write_header(file: BinaryIO, batch: NDArray[Any], rows: int) -> None:
    """The head of an `.npy` file of `rows` rows like those of `batch`."""
    head = {"descr": batch.dtype.str, "fortran_order": False, "shape": (rows, *batch.shape[1:])}
    np.lib.format.write_array_header_1_0(file, head)


def detector_features(model: LaneLMDetectorBase, inputs: Tensor) -> dict[str, Tensor]:
    """Images (B, 3, H, W) uint8 on any device -> what LaneLM trains on of them, as the cache keeps it.

    Features are rounded to half precision whether they are kept or not, so that a cache changes no more than the
    rounding before: it is filled in single precision, in batches of its own, and a training in mixed precision without
    one computes them in that.
    """
    device = next(model.parameters()).device
    observation = model.run_detector(inputs.to(device, non_blocking=True).float().div_(255))
    proposals = model.propose(observation.stage, model.config.lanelm.training_requests.proposal_threshold)
    return {
        **{f"level_{i}": level.half() for i, level in enumerate(observation.levels)},
        "proposal_xs": proposals.xs,
        "proposal_shown": proposals.visible,
        "proposal_scores": proposals.scores,
    }


def stored(sample: dict[str, Any]) -> tuple[tuple[Tensor, ...], Proposals]:
    """What `detector_features` returned -> pyramid levels in float32, proposals."""
    levels = tuple(sample[f"level_{i}"].float() for i in range(PYRAMID_LEVELS))
    return levels, Proposals(sample["proposal_xs"], sample["proposal_shown"], sample["proposal_scores"])
