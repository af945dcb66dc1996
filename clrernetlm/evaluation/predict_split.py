"""Runs the detector on a validation or test split, through the configured crop or one chosen for each image."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch.utils.data import DataLoader

from clrernetlm.config import Config
from clrernetlm.core.files import replacing
from clrernetlm.core.overwrite_rules import begins_with, read_beginning
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.viewport import Viewport
from clrernetlm.datasets.culane import CulaneDataset, Split
from clrernetlm.datasets.loaders import build_loader, limit_worker_threads, loader_workers, worker_start_method
from clrernetlm.datasets.samplers import ShardBatches
from clrernetlm.datasets.transforms import Sample
from clrernetlm.distributed.sharding import Shard
from clrernetlm.inference.auto_crop import Detector, DetectorBatch, run_detector
from clrernetlm.metrics.frame_scale import require_frame_fits

VIEWPORTS_FILE = "viewports.jsonl"
Batch = dict[str, Any]
Metas = list[dict[str, Any]]  # of the images of a batch: path, frame_size, viewport


def detect_split(
    config: Config, detector: Detector, split: Split, label: str, shard: Shard | None = None
) -> Iterator[tuple[Metas, DetectorBatch]]:
    """Yield the detector's output for a split, or a shard of it, with the images' metadata, batch by batch.

    `label`: text of the progress bar, which only the first process draws. Raises UserError for a frame larger than the
    canvas of the metric.
    """
    shard = shard or Shard(chunk_size=config.data.batch_size)
    whole_frames = config.model.viewport_mode == "auto" or (config.task == "lanelm" and config.lanelm.network.fovea)
    loader = (frame_loader if whole_frames else build_loader)(config, split, shard)
    for batch in progress_bar(loader, label, enabled=shard.rank == 0):
        for meta in batch["metainfo"]:
            path = os.path.join(config.data.root, meta["path"].lstrip("/"))
            require_frame_fits(config.evaluation.image_size, path, meta["frame_size"])
        detected = detect_batch(config, detector, batch)
        metas = zip(batch["metainfo"], detected.viewports, strict=True)
        yield [meta | {"viewport": view} for meta, view in metas], detected


def detect_batch(config: Config, detector: Detector, batch: Batch) -> DetectorBatch:
    """Run the detector on a batch of `frame_loader`, or of `build_loader`, which has cropped the images."""
    if "frames" in batch:
        detected = run_detector(config.model, detector, batch["frames"])
        if config.lanelm.network.fovea and config.task == "lanelm":
            detected.keep_crops(batch["frames"])
        return detected
    frames = [meta["frame_size"] for meta in batch["metainfo"]]
    return DetectorBatch(detector.run(batch["inputs"]), frames, [config.model.viewport] * len(frames))


def frame_loader(config: Config, split: Split, shard: Shard) -> DataLoader[Any]:
    """Load batches of whole frames: `frames`, a list of (H, W, 3) uint8 BGR, and `metainfo`."""
    listed = config.data.val_list if split == "val" else config.data.test_list
    dataset = CulaneDataset(config.data.root, listed, whole_frame, test_mode=True)
    workers = loader_workers(config.data.num_workers)
    return DataLoader(
        dataset,
        batch_sampler=ShardBatches(len(dataset), shard),
        collate_fn=_collate_frames,
        num_workers=workers,
        multiprocessing_context=worker_start_method(workers, shard.world),
        worker_init_fn=limit_worker_threads,
    )


def whole_frame(sample: Sample, rng: np.random.Generator) -> Sample:
    """Return a copy of the frame, unchanged; a pipeline for `CulaneDataset`."""
    return {"image": sample["image"].copy(), "metainfo": sample["metainfo"]}


def _collate_frames(samples: Sequence[Sample]) -> Batch:
    return {"frames": [sample["image"] for sample in samples], "metainfo": [sample["metainfo"] for sample in samples]}


def is_viewport_log(path: Path) -> bool:
    """Check whether a file is a log of viewports."""
    return begins_with('{"path": "/')(path) and b'"viewport": {' in read_beginning(path)


class ViewportLog:
    """Log of the crop of every image, one JSON line each; without a file, where all crops are the same, it is empty."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file

    def write(self, metas: Metas) -> None:
        """Append the viewports of a batch."""
        for meta in metas if self._file else ():
            row = {"path": "/" + meta["path"].lstrip("/"), "viewport": asdict(meta["viewport"])}
            print(json.dumps(row), file=self._file)


@contextmanager
def viewport_log(config: Config, folder: Path) -> Iterator[ViewportLog]:
    """Open a log in `folder` where crops are chosen; the file appears when the block ends without an error."""
    if config.model.viewport_mode == "fixed":
        yield ViewportLog(None)
        return
    with replacing(folder / VIEWPORTS_FILE) as temporary, open(temporary, "w", encoding="utf-8") as file:
        yield ViewportLog(file)


def read_viewports(config: Config, folder: Path, paths: Sequence[str]) -> dict[str, Viewport]:
    """Read the viewports of some images, by path, from the log in `folder`, line by line."""
    if config.model.viewport_mode == "fixed":
        return dict.fromkeys(paths, config.model.viewport)
    with open(folder / VIEWPORTS_FILE, encoding="utf-8") as lines:
        rows = (json.loads(line) for line in lines)
        return {row["path"]: Viewport(**row["viewport"]) for row in rows if row["path"] in paths}
