"""Computes differences of consecutive frames, by which training leaves out nearly identical ones: `train_diffs.npz`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, replacing
from clrernetlm.core.image_list import read_image_list
from clrernetlm.core.images import read_image
from clrernetlm.core.overwrite_rules import read_beginning
from clrernetlm.core.worker_pool import map_in_processes, worker_count

FIRST_FRAME = 255.0  # the largest possible difference, so that the first frame of a clip is always kept
_FRAMES_PER_TASK = 64  # frames that one task compares; it decodes one more, the frame before the first

Frames = list[tuple[int, str]]  # (line of the list, image path) in the order of time
ComparisonTask = tuple[str | None, Frames]  # path of the frame before, frames to compare


def frame_differences(
    root: PathLike,
    list_file: PathLike,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Float64Array:
    """Compute the mean absolute difference, 0..255, of each image of a list to the frame before it -> (N,).

    The frame before is the preceding one of the same folder in the order of frame names, independent of the order of
    the list; for the first frame of a folder, and after one of another size, the difference is 255. `workers` 0 uses
    every core; `progress` is called with (images done, images).

    Raises UserError naming the list or image that cannot be read.
    """
    listed = read_image_list(Path(root) / list_file, root=root)
    images = [os.fsdecode(path) for path in listed.images]
    tasks = list(_comparison_tasks(str(root), images))
    differences = np.full(len(images), FIRST_FRAME)
    done = 0
    workers = min(worker_count(workers), len(tasks))
    for result in map(_compare, tasks) if workers <= 1 else map_in_processes(_compare, tasks, workers):
        for line, difference in result:
            differences[line] = difference
        done += len(result)
        if progress is not None:
            progress(done, len(images))
    return differences


def is_own_differences(path: Path) -> bool:
    """Check whether a file was written by `write_differences`."""
    return b"written_by_clrernetlm.npy" in read_beginning(path)  # the name of an empty array, the first of the file


def write_differences(path: PathLike, differences: Float64Array) -> None:
    """Write the array `data` of a `train_diffs.npz` file, atomically."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, written_by_clrernetlm=np.zeros(0, np.uint8), data=differences.astype(np.float32))


def _comparison_tasks(root: str, images: list[str]) -> Iterator[ComparisonTask]:
    """Divide the frames of each folder, in the order of time, into tasks."""
    clips: dict[str, Frames] = {}
    for line, image in enumerate(images):
        path = os.path.join(root, image.lstrip("/"))
        clips.setdefault(str(PurePosixPath(image).parent), []).append((line, path))
    for frames in clips.values():
        frames.sort(key=lambda frame: (len(os.path.basename(frame[1])), frame[1]))  # 9.jpg before 10.jpg
        for start in range(0, len(frames), _FRAMES_PER_TASK):
            yield frames[start - 1][1] if start else None, frames[start : start + _FRAMES_PER_TASK]


def _compare(task: ComparisonTask) -> list[tuple[int, float]]:
    """Compute (line, difference) of each frame of a task."""
    before, frames = task
    previous = None if before is None else read_image(before)
    results: list[tuple[int, float]] = []
    for line, path in frames:
        frame = read_image(path)
        difference = FIRST_FRAME
        if previous is not None and previous.shape == frame.shape:
            difference = cv2.norm(frame, previous, cv2.NORM_L1) / frame.size
        results.append((line, difference))
        previous = frame
    return results


MAX_HEADER_BYTES, MAX_ITEM_BYTES = 10_000, 16  # bytes of an .npy file before its numbers, and of a number

MAX_OTHER_BYTES = 1 << 20  # bytes of all else in an .npz file; listing millions of members takes long


def load_differences(path: PathLike, *, expected: int, list_file: PathLike) -> Float64Array:
    """Read the (N,) mean absolute differences of listed images to the previous frame from `train_diffs.npz`.

    The array is called `data`; a file with one array under any name is accepted, too. Raises UserError naming the file
    if it is unreadable or does not belong to a list of `expected` lines.
    """
    fix = f"make it with `python tools/calculate_frame_diff.py` for {list_file}, or set data.diff_file to None"
    if os.path.exists(path) and not os.path.isfile(path):
        raise UserError(f"{path}: a folder, pipe or device, not an .npz file; {fix}")
    most = MAX_HEADER_BYTES + MAX_ITEM_BYTES * expected
    try:
        if os.path.getsize(path) > most + MAX_OTHER_BYTES:
            raise UserError(f"{path}: far too large for the {expected} images of {list_file}; {fix}")
        with np.load(path, allow_pickle=False) as arrays:
            name = "data" if "data" in arrays.files else arrays.files[0] if len(arrays.files) == 1 else None
            if name is None:
                raise UserError(f"{path}: holds {', '.join(arrays.files[:9]) or 'nothing'}, not `data`; {fix}")
            # NumPy reads `data.npy` and `data` alike.
            size = sum(item.file_size for item in arrays.zip.infolist() if item.filename in (name, f"{name}.npy"))
            if size > most:  # the size after decompression, which may be huge for a small file
                raise UserError(f"{path}: {size} bytes for the {expected} images of {list_file}; {fix}")
            differences = np.asarray(arrays[name], np.float64).ravel()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {fix}") from None
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds for damaged files, including MemoryError
        raise UserError(f"{path}: not a readable .npz file ({type(error).__name__}); {fix}") from None
    if len(differences) != expected:
        raise UserError(f"{path}: {len(differences)} differences for the {expected} images of {list_file}; {fix}")
    return differences
