"""Reads videos and cameras frame by frame, and writes videos that are complete or absent."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import temporary_beside
from clrernetlm.core.live_stream import LatestFrameReader
from clrernetlm.core.sources import Source, Stream
from clrernetlm.core.video_headers import CONTAINERS_WITH_LENGTH, orientation_of_angle, orientation_of_mp4
from clrernetlm.core.video_opening import name_for_opencv, open_video, read_frame
from clrernetlm.core.viewport import FrameSize

USUAL_FPS = 25.0  # for cameras and files without a frame rate
MAX_FPS = 240.0
MISSING_TOLERANCE = 0.02  # share of the announced frames that may be missing, because containers estimate their number
PIXEL_ASPECT_RANGE = (0.25, 4.0)  # plausible ratios of a pixel's width to its height


class Video:
    """Iterates over the frames of a video file, stream or camera, as players display them.

    A recording by a turned camera, or with pixels that are not square, is turned and stretched as its file says.
    Attributes: `size` (width, height) of the displayed frames in pixels, `fps`, and `count`, the announced number of
    frames, or None. Iterate once; `read` counts the frames so far. Files that list other files or addresses are
    refused. Frames of a live stream that are not read in time are dropped, and a lost stream is opened again; if that
    fails after all RECONNECT_DELAYS, it ends. Raises UserError if nothing can be read, and for frames of more than
    MAX_PIXELS.
    """

    def __init__(self, source: Source) -> None:
        self._reader: LatestFrameReader | None = None
        kind, self._capture, first = open_video(source)
        self._orientation = orientation_of_angle(self._capture.get(cv2.CAP_PROP_ORIENTATION_META))
        if kind == "mp4" and isinstance(source, Path):
            self._orientation = orientation_of_mp4(source) or self._orientation
        self._pixel_aspect = _pixel_aspect(self._capture)
        self.source, self.read, self._first = source, 0, self._as_displayed(first)
        self.size: FrameSize = (self._first.shape[1], self._first.shape[0])
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else USUAL_FPS
        recorded = isinstance(source, Path) or (isinstance(source, Stream) and source.may_be_recorded)
        self.count = int(count) if recorded and 0 < count < 1e9 else None
        self.live = not isinstance(source, Path) and self.count is None  # timed by the clock, not by its frames
        self._counted = kind in CONTAINERS_WITH_LENGTH
        self._start = time.monotonic()

    def __iter__(self) -> Iterator[BgrImage]:
        there, image = True, self._first
        if isinstance(self.source, Stream) and self.source.is_live:
            self._reader = LatestFrameReader(self.source, self._capture)
        while there:
            self.read += 1
            self._now = time.monotonic()
            yield image
            there, raw = read_frame(self._capture) if self._reader is None else self._reader.read()
            if there:
                image = self._as_displayed(raw)

    def _as_displayed(self, frame: Any) -> BgrImage:
        """Convert a decoded frame to (H, W, 3) uint8 BGR, stretched and turned as its file prescribes."""
        image: BgrImage
        image = np.asarray(frame if frame.ndim == 3 else cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR), np.uint8)
        if self._pixel_aspect != 1:
            image = np.asarray(
                cv2.resize(image, (max(1, round(image.shape[1] * self._pixel_aspect)), image.shape[0])), np.uint8
            )
        a, b, c, d = self._orientation
        if b:
            image, a, d = np.asarray(cv2.transpose(image), np.uint8), c, b
        if a < 0 or d < 0:
            image = np.asarray(cv2.flip(image, -1 if a < 0 and d < 0 else int(a < 0)), np.uint8)
        return image

    @property
    def seconds(self) -> float:
        """Time of the last frame in seconds: since the start of the file, or since the camera was opened."""
        return self._now - self._start if self.live else (self.read - 1) / self.fps

    @property
    def frames_due(self) -> int:
        """Number of frames of a video of `fps` up to the last one; cameras drop frames that are not read in time."""
        return 1 + int(self.seconds * self.fps) if self.live else self.read

    @property
    def cut_short(self) -> bool:
        """Return whether the file ended clearly before its announced number of frames, if it announces one."""
        return (
            self._counted and self.count is not None and self.read < self.count - max(2, MISSING_TOLERANCE * self.count)
        )

    def close(self) -> None:
        """Close the file, stream or camera."""
        (self._reader or self._capture).release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pixel_aspect(capture: cv2.VideoCapture) -> float:
    """Read the ratio of a pixel's width to its height; 1 if the file has none, or an implausible one."""
    width, height = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = width / height if width > 0 and height > 0 else 1.0
    return ratio if PIXEL_ASPECT_RANGE[0] <= ratio <= PIXEL_ASPECT_RANGE[1] else 1.0


@contextmanager
def video_writer(
    path: Path, size: FrameSize, fps: float, rename: Callable[[Path, Path], None] = os.replace
) -> Iterator[Callable[[BgrImage], None]]:
    """Write an MPEG-4 video: the context's value is a function that appends (H, W, 3) BGR images.

    The complete file appears at the end of the block, also if it ends by Ctrl-C; after any other error, or if nothing
    was appended, there is no file. Images of another size than `size` (width, height) are scaled to it. `rename` moves
    the finished file to `path`. Raises UserError if it cannot be written.
    """
    failed = UserError(f"{path}: cannot be written; free space or check permissions")
    frames = 0
    with ExitStack() as stack:
        try:  # OpenCV chooses the container by the suffix
            temporary = stack.enter_context(temporary_beside(path, keep_suffix=True))
        except OSError:
            raise failed from None
        with name_for_opencv(temporary) as name:
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not writer.isOpened():
            raise failed

        def append(image: BgrImage) -> None:
            nonlocal frames
            frames += 1
            writer.write(image if (image.shape[1], image.shape[0]) == size else cv2.resize(image, size))

        try:
            try:
                yield append
            finally:
                writer.release()
        except KeyboardInterrupt:
            if frames:
                _finish(temporary, path, failed, rename)
            raise
        if frames:
            _finish(temporary, path, failed, rename)


def _finish(temporary: Path, path: Path, failed: UserError, rename: Callable[[Path, Path], None]) -> None:
    """Move a video to its path if a frame can be read back, because OpenCV reports no error on a full disk."""
    try:
        Video(temporary).close()
        rename(temporary, path)
    except (UserError, OSError):
        raise failed from None
