"""Writes generated images, labels and masks to disk, in the layout of CULane."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.core.argument_checks import require_path, require_size, require_whole_number
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import GENERATED_DATA, PathLike, replacing, write_text_atomically
from clrernetlm.core.lane_attribute_files import attributes_path, format_attributes
from clrernetlm.core.lane_files import format_lines
from clrernetlm.core.notices import print_once
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.synth.camera.sensor import encode_jpeg
from clrernetlm.synth.randomization import NO_RANDOMIZATION, RANDOMIZATION_GROUPS, Randomization
from clrernetlm.synth.renderer import labelled_lane_attributes, labelled_lane_slots, render
from clrernetlm.synth.road.labels import draw_mask
from clrernetlm.synth.scene import CATEGORIES, Category
from clrernetlm.synth.scene_sampling import sample_scene
from clrernetlm.synth.visibility import LaneVisibility

SPLITS = ("train", "val", "test")
MASK_FOLDER = "laneseg_label_w16"
GENERATOR_VERSION = 3  # increased whenever the same seed gives other bytes
MAX_IMAGES = 10_000_000  # of one list: a hundred times CULane
_IMAGES_PER_CLIP = 100  # images per folder
_NEW_SCENE_DIFFERENCE = 16.0  # least difference to the previous image: no scene is a near copy of another


@dataclass(frozen=True)
class ImageSpec:
    """One image to generate: its split, number and category."""

    split: int
    index: int
    category: Category

    @property
    def path(self) -> str:
        """Return the path used in lists: a leading slash, no suffix."""
        clip, frame = divmod(self.index, _IMAGES_PER_CLIP)
        return f"/driver_{self.split + 1:02d}/{clip:05d}.MP4/{frame * 30:05d}"


@dataclass(frozen=True)
class ImageSummary:
    """The facts of a written image for the lists: which lane slots are filled, and a small copy to compare."""

    exist: tuple[int, ...]
    thumbnail: BgrImage


def sample_categories(split: int, count: int, seed: int) -> list[Category]:
    """Sample `count` categories in CULane's proportions, in random order.

    Each occurs at least once if `count` is large enough.
    """
    names = list(CATEGORIES)
    shares = np.array(list(CATEGORIES.values()), np.float64)
    shares *= count / shares.sum()
    quota = np.floor(shares).astype(int)
    if count >= len(names):
        quota = np.maximum(quota, 1)
    while quota.sum() < count:
        quota[np.argmax(shares - quota)] += 1
    while quota.sum() > count:
        quota[np.argmax(np.where(quota > 1, quota - shares, -np.inf))] -= 1
    order = np.random.default_rng([seed, split]).permutation(np.repeat(np.arange(len(names)), quota))
    return [names[i] for i in order]


def generate_image(
    spec: ImageSpec,
    root: Path,
    seed: int,
    size: tuple[int, int],
    quality: tuple[int, int],
    max_lanes: int,
    randomization: Randomization = NO_RANDOMIZATION,
) -> ImageSummary:
    """Generate one image and write it with its lanes, their attributes and its mask."""
    rng = np.random.default_rng([seed, spec.split, spec.index])
    scene = sample_scene(rng, spec.category, size, max_lanes, randomization)
    slots = labelled_lane_slots(scene)
    lanes = [points for points in slots if len(points)]
    visibility = LaneVisibility(lanes, scene.camera)
    image = render(scene, rng, visibility)
    attributes = labelled_lane_attributes(scene, slots, visibility)
    mask = draw_mask(slots, list(range(1, max_lanes + 1)), (image.shape[1], image.shape[0]))
    _write(root / f"{spec.path[1:]}.jpg", encode_jpeg(image, int(rng.integers(quality[0], quality[1] + 1))))
    lines = root / f"{spec.path[1:]}.lines.txt"
    _write(lines, format_lines(lanes).encode("ascii"))
    _write(Path(attributes_path(lines)), format_attributes(attributes, (image.shape[1], image.shape[0])).encode())
    _write(root / MASK_FOLDER / f"{spec.path[1:]}.png", bytes(cv2.imencode(".png", mask)[1]))
    thumbnail = cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return ImageSummary(tuple(int(len(points) > 0) for points in slots), thumbnail)


def _write(path: Path, content: bytes, sync: bool = False) -> None:
    """Write a file atomically unless it exists.

    `sync` as in `replacing`: images need none, they can be generated again.

    Raises UserError for an existing file with other content: it was changed later, or has another origin.
    """
    if os.path.lexists(path):
        if not path.is_file() or path.read_bytes() != content:
            raise UserError(f"{path}: differs from the generated file; name a new folder, or move the file away")
        return
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content)


def _claim_folder(root: Path, request: dict[str, object]) -> None:
    """Mark `root` as a generated data set; raise UserError if it holds anything else."""
    marker = root / GENERATED_DATA
    text = json.dumps(request, indent=1) + "\n"
    try:
        if root.exists() and not root.is_dir():
            raise UserError(f"{root}: is a file; name a folder for the data set")
        if root.exists() and any(root.iterdir()):
            if not marker.exists():
                raise UserError(f"{root}: is not empty and was not made by `synth`; name a new folder")
            if marker.read_text(encoding="utf-8") != text:
                raise UserError(
                    f"{root}: holds a data set of other settings ({GENERATED_DATA}); name a new folder or delete it"
                )
            return
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{root}: cannot be used ({error.strerror}); check the path and permissions") from None
    write_text_atomically(marker, text)


def _generate_images(job: partial[ImageSummary], images: list[ImageSpec], workers: int) -> Iterator[ImageSummary]:
    """Generate the images in this process or in `workers` others; yield the summaries in order."""
    if workers > 1:
        yield from map_in_processes(job, images, workers)
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from map(job, images)
    finally:
        cv2.setNumThreads(threads)


def _check_request(
    counts: tuple[int, int, int], seed: int, size: tuple[int, int], quality: tuple[int, int], max_lanes: int
) -> None:
    """Raise UserError for arguments of `generate_dataset` that cannot be used; `counts`: train, val, test."""
    for count, name in zip(counts, SPLITS, strict=True):
        require_whole_number(count, name, 0, MAX_IMAGES)
    for number, name in ((seed, "seed"), (max_lanes, "max_lanes")):
        require_whole_number(number, name)
    require_size(size, "size", 1, 2**31)
    if sum(counts) == 0:
        raise UserError("train, val, test = 0, 0, 0: nothing to generate; set at least one of them to 1 or more")
    if not (64 <= size[0] <= 8192 and 64 <= size[1] <= 8192):
        raise UserError(f"size {size[0]}x{size[1]}: width and height must lie between 64 and 8192 pixels")
    if not 1 <= quality[0] <= quality[1] <= 100:
        raise UserError(f"quality {quality[0]}..{quality[1]}: use two JPEG qualities, low then high, from 1 to 100")
    if seed < 0 or max_lanes < 2:
        raise UserError(f"seed {seed}, max_lanes {max_lanes}: use a seed >= 0 and max_lanes >= 2")


def generate_dataset(
    out: PathLike,
    train: int,
    val: int,
    test: int,
    seed: int = 0,
    size: tuple[int, int] = (1640, 590),
    workers: int = 0,
    quality: tuple[int, int] = (60, 95),
    progress: bool = True,
    max_lanes: int = 4,
    randomization: Randomization = NO_RANDOMIZATION,
    *,
    realism: Randomization | None = None,
) -> None:
    """Write road scenes of `size` (width, height) pixels to the folder `out`, in CULane's layout.

    `train`, `val` and `test` count the images. Images `driver_XX/CLIP.MP4/FRAME.jpg` with `.lines.txt` beside them,
    masks under `laneseg_label_w16`, and `list/` written last. The same arguments give the same bytes, for any number
    of `workers` (processes; 0: one per core). `quality` (low, high) bounds the JPEG quality. `randomization` is a set
    of groups from `parse_randomization`, varied to train models for real roads; `realism` is its former name.

    A folder of the same settings is completed; any other folder that is not empty is refused. Existing files are not
    written again. Raises UserError for impossible numbers, a folder that is in use, a file in it that was changed, or
    a disk that cannot be written.
    """
    require_path(out, "out")
    if realism is not None:
        print_once("generate_dataset: realism is now called randomization")
        randomization = realism
    counts = (train, val, test)
    _check_request(counts, seed, size, quality, max_lanes)
    root = Path(out)
    workers = worker_count(workers)
    request = {"generator": GENERATOR_VERSION, "counts": counts, "seed": seed, "size": size}
    if randomization:
        # The key keeps its former name: folders of earlier versions can be completed.
        request["realism"] = [group for group in RANDOMIZATION_GROUPS if group in randomization]
    _claim_folder(root, request | {"quality": quality, "max_lanes": max_lanes})
    images = [
        ImageSpec(split, index, category)
        for split, count in enumerate(counts)
        for index, category in enumerate(sample_categories(split, count, seed))
    ]
    job = partial(
        generate_image,
        root=root,
        seed=seed,
        size=size,
        quality=quality,
        max_lanes=max_lanes,
        randomization=randomization,
    )
    workers = min(workers, len(images))
    results = list(progress_bar(_generate_images(job, images, workers), "Roads", len(images), enabled=progress))
    _write_lists(root, images, results)


def _write_lists(root: Path, images: list[ImageSpec], results: list[ImageSummary]) -> None:
    """Write all files of `list/`: images, images with masks, test categories and differences between images."""
    for split, name in enumerate(SPLITS):
        chosen = [(p, r) for p, r in zip(images, results, strict=True) if p.split == split]
        _write_text(root / "list" / f"{name}.txt", "".join(f"{p.path}.jpg\n" for p, _ in chosen))
        if name == "test":
            for number, category in enumerate(CATEGORIES):
                text = "".join(f"{p.path}.jpg\n" for p, _ in chosen if p.category == category)
                _write_text(root / "list" / "test_split" / f"test{number}_{category}.txt", text)
            continue
        rows = (f"{p.path}.jpg /{MASK_FOLDER}{p.path}.png {' '.join(map(str, r.exist))}\n" for p, r in chosen)
        _write_text(root / "list" / f"{name}_gt.txt", "".join(rows))
        if name == "train":
            _write_differences(root / "list" / "train_diffs.npz", [r.thumbnail for _, r in chosen])


def _write_text(path: Path, text: str) -> None:
    """Write a list atomically and flush it to disk."""
    _write(path, text.encode(), sync=True)


def _write_differences(path: Path, thumbnails: list[BgrImage]) -> None:
    """Write the mean absolute difference of each image to the one before; 255 for the first image."""
    stack = np.array(thumbnails, np.float32)
    differences = np.full(len(stack), 255.0)
    if len(stack) > 1:
        differences[1:] = np.maximum(np.abs(np.diff(stack, axis=0)).mean((1, 2, 3)), _NEW_SCENE_DIFFERENCE)
    content = io.BytesIO()
    np.savez(content, data=differences)
    _write(path, content.getvalue(), sync=True)
