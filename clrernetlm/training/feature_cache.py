"""Caches the frozen detector's features of all training images on disk, so that LaneLM trains without the detector."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
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
from clrernetlm.core.lane_files import label_path
from clrernetlm.core.progress import progress_bar
from clrernetlm.datasets import collate
from clrernetlm.datasets.culane import CulaneDataset
from clrernetlm.datasets.loaders import ImageLoader, limit_worker_threads, loader_workers
from clrernetlm.datasets.transforms import Sample
from clrernetlm.models.clrernet.head import PYRAMID_LEVELS
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.pixel_scaling import normalise

try:
    import fcntl
except ImportError:  # Windows has no such locks: processes build in parallel, the first to finish wins
    fcntl = None  # type: ignore[assignment]

Batch = dict[str, Any]
BATCH = 16
LABELS = ("lane_xs", "lane_tokens_x", "lane_tokens_y")
FILES = (
    *(f"level_{i}" for i in range(PYRAMID_LEVELS)),
    "proposal_xs",
    "proposal_shown",
    "proposal_scores",
    *LABELS,
)  # names of the cache's files, without .npy
FINGERPRINT = re.compile("[0-9a-f]{16}")
DATA_SETTINGS = ("root", "train_list", "diff_file", "diff_threshold", "decode", "augmentation")


@dataclass(frozen=True)
class CachedValues:
    """What a cache holds: names of its files, how to compute their rows of a batch, and what else they depend on."""

    names: tuple[str, ...]
    compute: Callable[[LaneLMDetectorBase, Batch], dict[str, Tensor]]
    facts: Callable[[Config, LaneLMDetectorBase], list[Any]]
    prepare: Callable[[LaneLMDetectorBase], LaneLMDetectorBase] = lambda model: model  # before all rows are computed


class FeatureCache:
    """Reads features, proposals and labels of all augmentations of `images` images from memory-mapped `.npy` files.

    Features are in half precision: a relative error of 5e-4 at most. Worker processes, forked or spawned, map the files
    themselves. At most a batch is held in memory; other resident pages are dropped by the system when it needs them.
    """

    def __init__(self, folder: Path, images: int, names: tuple[str, ...] = FILES) -> None:
        self.folder, self.images, self.names = folder, images, names

    @cached_property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return {name: array (augmentations * images, ...)}."""
        return {name: open_array(self.folder / f"{name}.npy") for name in self.names}

    def __getstate__(self) -> dict[str, Any]:
        # Pickling a memory map copies the whole file.
        return {"folder": self.folder, "images": self.images, "names": self.names}

    def read(self, augmentation: int, index: int) -> Sample:
        """Read one sample: `level_0` (C, h, w) float16 ..., `proposal_xs`, `_shown` and `_scores`, and labels."""
        row = augmentation * self.images + index
        sample: Sample = {name: torch.from_numpy(np.array(array[row])) for name, array in self.arrays.items()}
        return sample | {"metainfo": {"index": index}}


def feature_cache(
    config: Config,
    images: CulaneDataset,
    model: LaneLMDetectorBase,
    device: torch.device | None = None,
    values: CachedValues | None = None,
) -> FeatureCache | None:
    """Open the cache in `config.lanelm.cache`, and build it on `device` if it is missing; None if that is not set.

    `values`: what it holds, by default the detector's features and proposals, and the labels.

    Each combination of images, settings and detector has its own folder in `config.lanelm.cache`, which appears when it
    is complete; a damaged one is rebuilt, with a warning. Raises UserError if every epoch has new augmentations, and if
    the disk is too small.
    """
    if config.lanelm.cache is None:
        return None
    if not config.lanelm.cached_augmentations:
        raise UserError(
            "lanelm.cache: features of new augmentations in every epoch cannot be cached; set "
            "lanelm.cached_augmentations to 1 or more"
        )
    values = values or FEATURES
    folder = Path(config.lanelm.cache) / fingerprint(config, images, model, values)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder.parent)
        with exclusive_lock(folder.with_suffix(".lock")):
            fault = None
            if folder.exists():
                rows = config.lanelm.cached_augmentations * len(images)
                fault = find_damage(folder, rows, first_row(images, model, values))
            if fault is not None:
                warnings.warn(f"{folder}: damaged ({fault}); computing the features again", stacklevel=2)
                shutil.rmtree(folder)
            if not folder.exists():
                build_cache(config, images, model, folder, device or next(model.parameters()).device, values)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"{folder}: features cannot be written ({reason}); free space, lower lanelm.cached_augmentations or set "
            "lanelm.cache=None"
        ) from None
    return FeatureCache(folder, len(images), values.names)


def first_row(images: CulaneDataset, model: LaneLMDetectorBase, values: CachedValues) -> dict[str, NDArray[Any]]:
    """Compute one row of every file of a cache from the first image, for the shapes and types that are right."""
    return {name: tensor.cpu().numpy() for name, tensor in values.compute(model, collate([images[0]])).items()}


def find_damage(folder: Path, rows: int, row: dict[str, NDArray[Any]]) -> str | None:
    """Describe the damage of a finished cache of `rows` rows like `row`; None if it is intact.

    Checks names, headers and sizes, not the gigabytes of data.
    """
    for name in row:
        path = folder / f"{name}.npy"
        if not path.is_file():
            return f"{path.name} is missing"
        try:
            array = open_array(path)
        except Exception:  # numpy raises errors of many types for damaged headers
            return f"{path.name} is cut short or overwritten"
        if array.shape[:1] != (rows,):
            return f"{path.name} has {len(array) if array.ndim else 0} rows instead of {rows}"
        if (array.shape[1:], array.dtype) != (row[name].shape[1:], row[name].dtype):
            return f"{path.name} holds {array.dtype} of shape {array.shape[1:]}, which is not what the model computes"
    return None


def open_array(path: Path) -> NDArray[Any]:
    """Map the array of an `.npy` file into memory; raises an error for anything else, also pickles and archives."""
    return np.lib.format.open_memmap(path, mode="r")


def remove_unfinished(cache: Path) -> None:
    """Remove unfinished features of killed processes from the folder `cache`, but no `.part` of other programs."""
    for part in cache.glob("*.part"):
        if not FINGERPRINT.fullmatch(part.stem):
            continue
        with suppress(OSError), exclusive_lock(part.with_suffix(".lock"), wait=False):
            shutil.rmtree(part)


@contextmanager
def exclusive_lock(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold a file lock for the block, waiting while another process holds it; a killed process releases it.

    Without `wait`: raises BlockingIOError if another process holds it, another OSError if that cannot be determined.
    """
    # No links: one could lead to a file elsewhere, which would be emptied. Opened for reading and writing: opening a
    # named pipe for writing alone would block until a process reads it.
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


def fingerprint(config: Config, images: CulaneDataset, model: LaneLMDetectorBase, values: CachedValues) -> str:
    """Compute a digest of everything the cached features depend on; files count by size and modification time."""
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
        *values.facts(config, model),
    ]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for tensor in model.detector.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def file_facts(images: CulaneDataset, index: int) -> list[Any]:
    """List the path of an image, and sizes and times of image and labels; missing files are reported elsewhere."""
    listed = images.image_path(index)
    path = os.path.join(images.root, listed.lstrip("/"))
    facts: list[Any] = [listed]
    for file in (path, label_path(path)):
        with suppress(OSError):
            status = os.stat(file)
            facts += [status.st_size, status.st_mtime_ns]
    return facts


class _Augmentations(Dataset[Sample]):
    """All images in the first augmentation, then all in the second, and so on."""

    def __init__(self, images: CulaneDataset, augmentations: int) -> None:
        self.images, self.augmentations = images, augmentations

    def __len__(self) -> int:
        return self.augmentations * len(self.images)

    def __getitem__(self, number: int) -> Sample:
        augmentation, index = divmod(number, len(self.images))
        self.images.set_epoch(augmentation)
        return self.images[index]


def build_cache(
    config: Config,
    images: CulaneDataset,
    model: LaneLMDetectorBase,
    folder: Path,
    device: torch.device,
    values: CachedValues,
) -> None:
    """Run the detector on all augmentations; `folder` appears when complete, leftovers of a killed run are replaced."""
    part = folder.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    original_device = next(model.parameters()).device
    try:
        model.to(device)
        write_features(config, images, values.prepare(model), part, values)
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    finally:
        model.to(original_device)


def write_features(
    config: Config, images: CulaneDataset, model: LaneLMDetectorBase, folder: Path, values: CachedValues
) -> None:
    """Write one `.npy` file per entry of a sample, row by row."""
    rows = config.lanelm.cached_augmentations * len(images)
    loader = ImageLoader(
        _Augmentations(images, config.lanelm.cached_augmentations),
        batch_size=BATCH,
        collate_fn=collate,
        num_workers=loader_workers(config.data.num_workers),
        worker_init_fn=limit_worker_threads,
        generator=torch.Generator(),  # its own: the initial weights must not depend on whether features were cached
    )
    files: dict[str, BinaryIO] = {}
    with ExitStack() as stack:
        for batch in progress_bar(loader, "Features"):
            tensors = values.compute(model, batch)
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


def check_space(folder: Path, size: int, config: Config) -> None:
    """Raise UserError if the features, `size` bytes per augmentation, will not fit on the disk."""
    needed, limit = size * config.lanelm.cached_augmentations / 1e9, config.lanelm.cache_limit
    free = shutil.disk_usage(folder).free / 1e9
    if limit is not None and needed > limit:
        fitting = int(limit * 1e9 / size)
        way = f"lower lanelm.cached_augmentations to {fitting}" if fitting else "set lanelm.cache=None"
        raise UserError(f"lanelm.cache_limit: features need {needed:.3g} GB, not {limit:g}; raise it, or {way}")
    if needed > free:
        raise UserError(
            f"{folder.parent}: features need {needed:.1f} GB, {free:.1f} GB are free; free space, lower "
            "lanelm.cached_augmentations or set lanelm.cache=None"
        )


def write_header(file: BinaryIO, batch: NDArray[Any], rows: int) -> None:
    """Write the header of an `.npy` file of `rows` rows like those of `batch`."""
    header = {"descr": batch.dtype.str, "fortran_order": False, "shape": (rows, *batch.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)


def detector_features(model: LaneLMDetectorBase, inputs: Tensor) -> dict[str, Tensor]:
    """Compute the detector's features and proposals of images (B, 3, H, W) uint8, as the cache stores them.

    Features are rounded to half precision with and without a cache, so that a cache hardly changes a training: only by
    the rounding errors before, since it is filled in single precision and in other batches.
    """
    device = next(model.parameters()).device
    output = model.run_detector(normalise(inputs.to(device, non_blocking=True)))
    proposals = model.propose(output.predictions, model.config.lanelm.training_requests.proposal_threshold)
    return {
        **{f"level_{i}": level.half() for i, level in enumerate(output.levels)},
        "proposal_xs": proposals.xs,
        "proposal_shown": proposals.visible,  # file names stay those of earlier versions
        "proposal_scores": proposals.scores,
    }


def features_and_labels(model: LaneLMDetectorBase, batch: Batch) -> dict[str, Tensor]:
    """Compute `detector_features` of a batch, and add its labels."""
    return detector_features(model, batch["inputs"]) | {name: batch[name] for name in LABELS}


FEATURES = CachedValues(FILES, features_and_labels, lambda config, model: [])


def unpack_features(sample: dict[str, Any]) -> tuple[tuple[Tensor, ...], Proposals]:
    """Convert the result of `detector_features` to pyramid levels in float32 and proposals."""
    levels = tuple(sample[f"level_{i}"].float() for i in range(PYRAMID_LEVELS))
    return levels, Proposals(sample["proposal_xs"], sample["proposal_shown"], sample["proposal_scores"])
