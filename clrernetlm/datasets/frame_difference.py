"""How much each frame differs from the one before it: `train_diffs.npz`, which thins out nearly identical frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.files import PathLike, replacing
from clrernetlm.core.images import read_image
from clrernetlm.core.output_files import read_head
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.datasets.image_list import read_image_list

FIRST_FRAME = 255.0  # the largest possible difference: the first frame of a clip always stays
_RUN = 64  # frames one task compares; it decodes one more, the frame before its first

Frames = list[tuple[int, str]]  # (line of the list, image path) in the order of time
Run = tuple[str | None, Frames]  # path of the frame before, frames to compare


def frame_differences(
    root: PathLike,
    list_file: PathLike,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.float64]:
    """(N,) mean absolute difference, 0..255, of each image of a list to the frame before it.

    The frame before is the preceding one of the same folder in the order of frame names, whatever the order of the
    list; the first frame of a folder, or one of another size, gets 255. `workers` 0 uses every core; `progress` is
    called with (images done, images).

    Raises UserError naming the list or image that cannot be read.
    """
    listed = read_image_list(Path(root) / list_file, root=root)
    images = [os.fsdecode(path) for path in listed.images]
    runs = list(_runs(str(root), images))
    differences = np.full(len(images), FIRST_FRAME)
    done = 0
    workers = min(worker_count(workers), len(runs))
    for result in map(_compare, runs) if workers <= 1 else map_in_processes(_compare, runs, workers):
        for line, difference in result:
            differences[line] = difference
        done += len(result)
        if progress is not None:
            progress(done, len(images))
    return differences


def is_own_differences(path: Path) -> bool:
    """Whether a file was written by `write_differences`."""
    return b"written_by_clrernetlm.npy" in read_head(path)  # the name of an empty array, the first of the file


def write_differences(path: PathLike, differences: NDArray[np.float64]) -> None:
    """Write the array `data` of a `train_diffs.npz` file in one step."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, written_by_clrernetlm=np.zeros(0, np.uint8), data=differences.astype(np.float32))


def _runs(root: str, images: list[str]) -> Iterator[Run]:
    """Frames of each folder in the order of time, cut into runs."""
    clips: dict[str, Frames] = {}
    for line, image in enumerate(images):
        path = os.path.join(root, image.lstrip("/"))
        clips.setdefault(str(PurePosixPath(image).parent), []).append((line, path))
    for frames in clips.values():
        frames.sort(key=lambda frame: (len(os.path.basename(frame[1])), frame[1]))  # 9.jpg before 10.jpg
        for start in range(0, len(frames), _RUN):
            yield frames[start - 1][1] if start else None, frames[start : start + _RUN]


def _compare(run: Run) -> list[tuple[int, float]]:
    """(line, difference) of each frame of a run."""
    before, frames = run
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
