"""Dataset: generated pictures on disk, in the layout of CULane."""

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
from numpy.typing import NDArray

from clrernetlm.core.argument_checks import require_path, require_size, require_whole_number
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import GENERATED_DATA, PathLike, replacing, write_text_atomically
from clrernetlm.core.lane import format_lines
from clrernetlm.core.progress import progress as progress_bar
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.synth.camera.sensor import encode
from clrernetlm.synth.randomization import PIECES, PLAIN, Realism
from clrernetlm.synth.renderer import lane_slots, render
from clrernetlm.synth.road.labels import draw_mask
from clrernetlm.synth.sampling import sample_scene
from clrernetlm.synth.scene import CATEGORIES, Category

SPLITS = ("train", "val", "test")
MASK_FOLDER = "laneseg_label_w16"
GENERATOR_VERSION = 1  # a new one whenever the same seed gives other bytes
MAX_PICTURES = 10_000_000  # of one list: a hundred CULane's
_CLIP_LENGTH = 100  # pictures per folder
_NEW_SCENE = 16.0  # least difference to the previous picture: no scene is a near copy of another


@dataclass(frozen=True)
class Picture:
    """One picture to be made: where it goes and what it shows."""

    split: int
    index: int
    category: Category

    @property
    def path(self) -> str:
        """Path in the lists, with a slash first and without the suffix."""
        clip, frame = divmod(self.index, _CLIP_LENGTH)
        return f"/driver_{self.split + 1:02d}/{clip:05d}.MP4/{frame * 30:05d}"


@dataclass(frozen=True)
class Result:
    """What the lists need to know of a picture that is on disk."""

    exist: tuple[int, ...]
    thumbnail: NDArray[np.uint8]


def categories(split: int, count: int, seed: int) -> list[Category]:
    """`count` categories in CULane's proportions, each at least once where there is room, in random order."""
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


def make_picture(
    picture: Picture,
    root: Path,
    seed: int,
    size: tuple[int, int],
    quality: tuple[int, int],
    max_lanes: int,
    realism: Realism = PLAIN,
) -> Result:
    """Generate one picture with its lines and mask and write all three."""
    rng = np.random.default_rng([seed, picture.split, picture.index])
    scene = sample_scene(rng, picture.category, size, max_lanes, realism)
    slots = lane_slots(scene)
    image = render(scene, rng)
    mask = draw_mask(slots, list(range(1, max_lanes + 1)), (image.shape[1], image.shape[0]))
    _write(root / f"{picture.path[1:]}.jpg", encode(image, int(rng.integers(quality[0], quality[1] + 1))))
    _write(root / f"{picture.path[1:]}.lines.txt", format_lines([p for p in slots if len(p)]).encode("ascii"))
    _write(root / MASK_FOLDER / f"{picture.path[1:]}.png", bytes(cv2.imencode(".png", mask)[1]))
    thumbnail = cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return Result(tuple(int(len(points) > 0) for points in slots), thumbnail)


def _write(path: Path, content: bytes, sync: bool = False) -> None:
    """Write a file in one step, unless it is there already; `sync` as in `replacing`: pictures can be made again.

    Raises UserError for a file with other content: somebody has corrected it since, or it is no picture of ours.
    """
    if os.path.lexists(path):
        if not path.is_file() or path.read_bytes() != content:
            raise UserError(
                f"{path}: differs from what would be written in its place; name a new folder, or move the file away"
            )
        return
    with replacing(path, sync=sync) as temporary:
        temporary.write_bytes(content)


def _claim(root: Path, request: dict[str, object]) -> None:
    """Mark `root` as ours; refuse what holds anything else."""
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


def _results(job: partial[Result], pictures: list[Picture], workers: int) -> Iterator[Result]:
    """Make the pictures in this process or in `workers` others, results in order."""
    if workers > 1:
        yield from map_in_processes(job, pictures, workers)
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from map(job, pictures)
    finally:
        cv2.setNumThreads(threads)


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
    realism: Realism = PLAIN,
) -> None:
    """Write `train`, `val` and `test` road scenes of `size` (width, height) pixels to the folder `out`, CULane's way.

    Pictures `driver_XX/CLIP.MP4/FRAME.jpg` with `.lines.txt` beside them, masks under `laneseg_label_w16`, and
    `list/` written last. The same arguments give the same bytes, whatever `workers` (processes; 0: one per core) is.
    `quality` bounds the JPEG quality.
    `realism` names what is added to train models for real roads. A folder of the same settings is completed, any other
    that is not empty refused. Files that are there already are not written again.
    Raises UserError for impossible numbers, a folder that is in use, a file in it that was changed, or a disk that
    cannot be written.
    """
    require_path(out, "out")
    for count, name in ((train, "train"), (val, "val"), (test, "test")):
        require_whole_number(count, name, 0, MAX_PICTURES)
    for number, name in ((seed, "seed"), (max_lanes, "max_lanes")):
        require_whole_number(number, name)
    require_size(size, "size", 1, 2**31)
    root = Path(out)
    counts = (train, val, test)
    if min(counts) < 0 or sum(counts) == 0:
        raise UserError(f"train, val, test = {train}, {val}, {test}: ask for at least one picture and none below 0")
    if not (64 <= size[0] <= 8192 and 64 <= size[1] <= 8192):
        raise UserError(f"size {size[0]}x{size[1]}: width and height must lie between 64 and 8192 pixels")
    if not 1 <= quality[0] <= quality[1] <= 100:
        raise UserError(f"quality {quality[0]}..{quality[1]}: two JPEG qualities, low then high, between 1 and 100")
    if seed < 0 or max_lanes < 2:
        raise UserError(f"seed {seed}, max_lanes {max_lanes}: need >= 0 and >= 2")
    workers = worker_count(workers)
    request = {"generator": GENERATOR_VERSION, "counts": counts, "seed": seed, "size": size}
    if realism:
        request["realism"] = [piece for piece in PIECES if piece in realism]
    _claim(root, request | {"quality": quality, "max_lanes": max_lanes})
    pictures = [
        Picture(split, index, category)
        for split, count in enumerate(counts)
        for index, category in enumerate(categories(split, count, seed))
    ]
    job = partial(make_picture, root=root, seed=seed, size=size, quality=quality, max_lanes=max_lanes, realism=realism)
    workers = min(workers, len(pictures))
    results = list(progress_bar(_results(job, pictures, workers), "Roads", len(pictures), progress))
    _write_lists(root, pictures, results)


def _write_lists(root: Path, pictures: list[Picture], results: list[Result]) -> None:
    """All of `list/`: pictures, pictures with masks, test categories and differences between pictures."""
    for split, name in enumerate(SPLITS):
        chosen = [(p, r) for p, r in zip(pictures, results, strict=True) if p.split == split]
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
    _write(path, text.encode(), sync=True)


def _write_differences(path: Path, thumbnails: list[NDArray[np.uint8]]) -> None:
    """Mean |difference| of each picture to the one before, from thumbnails; the first has none before it: 255."""
    stack = np.array(thumbnails, np.float32)
    differences = np.full(len(stack), 255.0)
    if len(stack) > 1:
        differences[1:] = np.maximum(np.abs(np.diff(stack, axis=0)).mean((1, 2, 3)), _NEW_SCENE)
    content = io.BytesIO()
    np.savez(content, data=differences)
    _write(path, content.getvalue(), sync=True)
