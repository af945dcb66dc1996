"""The frozen detector's features of all training images on disk, so that training LaneLM reads instead of computing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from clrernetlm.config import Config
from clrernetlm.config.serialization import to_dict
from clrernetlm.data import collate
from clrernetlm.data.culane import CulaneDataset, Sample
from clrernetlm.errors import UserError
from clrernetlm.files import write_text_atomically
from clrernetlm.models.lanelm.promptable import PromptableDetector
from clrernetlm.models.lanelm.proposals import Proposals

BATCH = 16
LEVELS = 3


class FeatureCache:
    """Features, proposals and labels of every view of every image, in memory-mapped `.npy` files of one folder.

    Features are stored in half precision (a relative error of 5e-4 at most). Whatever they depend on is in the
    fingerprint in `cache.json`, written last: an interrupted or outdated cache is built anew.
    """

    def __init__(self, folder: Path, images: int) -> None:
        self.images = images
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}

    def read(self, view: int, index: int) -> Sample:
        """One item: `level_0` (C, h, w) float16 ..., `proposal_xs`, `proposal_shown`, `proposal_scores`, `lane_xs`."""
        sample: Sample = {
            name: torch.from_numpy(np.array(array[view * self.images + index])) for name, array in self.arrays.items()
        }
        return sample | {"metainfo": {"index": index}}


def feature_cache(config: Config, images: CulaneDataset, model: PromptableDetector) -> FeatureCache | None:
    """The cache that `config.lanelm.cache` asks for, built now unless it is there; None when none is wanted.

    Raises UserError when every epoch shows new views, and when the disk is too small.
    """
    if config.lanelm.cache is None:
        return None
    if not config.lanelm.views:
        raise UserError(
            "lanelm.cache: features can be kept only of a fixed number of views; set lanelm.views to 1 or more"
        )
    folder, wanted = Path(config.lanelm.cache), fingerprint(config, model)
    note = folder / "cache.json"
    if not note.exists() or json.loads(note.read_text()).get("fingerprint") != wanted:
        note.unlink(missing_ok=True)
        build(config, images, model, folder)
        write_text_atomically(
            note, json.dumps({"fingerprint": wanted, "images": len(images), "views": config.lanelm.views})
        )
    return FeatureCache(folder, len(images))


def fingerprint(config: Config, model: PromptableDetector) -> str:
    """A digest of everything the stored features depend on."""
    settings = to_dict(config)
    data = {
        key: settings["data"][key]
        for key in ("root", "train_list", "diff_file", "diff_threshold", "decode", "augmentation")
    }
    digest = hashlib.sha256(
        json.dumps([data, settings["model"], config.training.seed, config.lanelm.views], sort_keys=True).encode()
    )
    digest.update(json.dumps([config.lanelm.network.num_steps, config.lanelm.lessons.proposal_threshold]).encode())
    for tensor in model.detector.state_dict().values():
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


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


def build(config: Config, images: CulaneDataset, model: PromptableDetector, folder: Path) -> None:
    """Run the detector over all views and write the arrays."""
    from clrernetlm.engine.data_module import loader_workers, quiet_worker

    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    loader: DataLoader[Any] = DataLoader(
        _Views(images, config.lanelm.views),
        batch_size=BATCH,
        collate_fn=collate,
        num_workers=loader_workers(config.data.num_workers),
        worker_init_fn=quiet_worker,
    )
    arrays: dict[str, NDArray[Any]] = {}
    console, done = Console(stderr=True), 0
    for batch in track(loader, "Features", console=console, transient=True, disable=not console.is_terminal):
        observed = observed_sample(model, batch, device, config.lanelm.lessons.proposal_threshold)
        for name, tensor in observed.items():
            values = tensor.cpu().numpy()
            if name not in arrays:
                shape = (config.lanelm.views * len(images), *values.shape[1:])
                arrays[name] = np.lib.format.open_memmap(folder / f"{name}.part", "w+", values.dtype, shape)
            arrays[name][done : done + len(values)] = values
        done += len(batch["inputs"])
    for name, array in arrays.items():
        array.flush()
        (folder / f"{name}.part").rename(folder / f"{name}.npy")


def observed_sample(
    model: PromptableDetector, batch: dict[str, Any], device: torch.device, threshold: float
) -> dict[str, torch.Tensor]:
    """A batch with `inputs` and `lane_xs` -> what the cache stores of it."""
    observation = model.observe(batch["inputs"].to(device).float().div_(255))
    proposals = model.propose(observation.stage, threshold)
    return {
        **{f"level_{i}": level.half() for i, level in enumerate(observation.levels)},
        "proposal_xs": proposals.xs,
        "proposal_shown": proposals.shown,
        "proposal_scores": proposals.scores,
        "lane_xs": batch["lane_xs"],
    }


def stored(sample: dict[str, Any]) -> tuple[tuple[torch.Tensor, ...], Proposals]:
    """What `observed_sample` returned -> pyramid levels in float32, proposals."""
    levels = tuple(sample[f"level_{i}"].float() for i in range(LEVELS))
    return levels, Proposals(sample["proposal_xs"], sample["proposal_shown"], sample["proposal_scores"])
