"""Videos and cameras, read frame by frame, and videos written that can be played whatever happens."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.errors import UserError
from clrernetlm.files import temporary_beside
from clrernetlm.geometry import FrameSize, Image
from clrernetlm.inputs import Source

# The libraries would print theirs beside our errors. Read once, when OpenCV first opens a video; -8: quiet.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

USUAL_FPS = 25.0  # for cameras and files that do not say
MAX_FPS = 240.0
LOST = 0.02  # share of the announced frames that may be missing: containers estimate their number


class Video:
    """The frames of a video file or camera, one at a time.

    Has `size` (width, height) in pixels, `fps`, and `count`, the announced number of frames, or None. Iterate once;
    `read` counts the frames given. Raises UserError when nothing can be read.
    """

    def __init__(self, source: Source) -> None:
        level = cv2.setLogLevel(0)
        try:
            self._capture = cv2.VideoCapture(source if isinstance(source, int) else str(source))
            there, first = self._capture.read() if self._capture.isOpened() else (False, None)
        finally:
            cv2.setLogLevel(level)
        if not there or first is None:
            self._capture.release()
            raise UserError(_unreadable(source))
        self.source, self.read, self._first = source, 0, first
        self.size: FrameSize = (first.shape[1], first.shape[0])
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else USUAL_FPS
        self.count = int(count) if isinstance(source, Path) and 0 < count < 1e9 else None
        self._start = time.monotonic()

    def __iter__(self) -> Iterator[Image]:
        there, image = True, self._first
        while there:
            self.read += 1
            self._now = time.monotonic()
            yield np.asarray(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
            there, image = self._capture.read()

    @property
    def seconds(self) -> float:
        """When the last frame was: since the start of the file, or on the clock since the camera was opened."""
        return (self.read - 1) / self.fps if isinstance(self.source, Path) else self._now - self._start

    @property
    def due(self) -> int:
        """Frames that a video of `fps` needs to reach the last one; a camera skips some while nobody reads."""
        return self.read if isinstance(self.source, Path) else 1 + int(self.seconds * self.fps)

    @property
    def cut_short(self) -> bool:
        """Whether the file ended clearly before its announced number of frames."""
        return self.count is not None and self.read < self.count - max(2, LOST * self.count)

    def close(self) -> None:
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _unreadable(source: Source) -> str:
    if isinstance(source, int):
        return f"{source}: no camera of this number gives pictures; check that it is connected and free"
    return f"{source}: not a video, or cut short; no frame can be read"


@contextmanager
def video_file(path: Path, size: FrameSize, fps: float) -> Iterator[Callable[[Image], None]]:
    """A function that appends (H, W, 3) BGR images to the MPEG-4 video `path`.

    The file appears at the end of the block, whole; also when it ends by Ctrl-C. After any other error, and when
    nothing was appended, there is none. Images of another size than `size` (width, height) are scaled to it. Raises
    UserError when it cannot be written.
    """
    failed = UserError(f"{path}: cannot be written; free space or check permissions")
    frames = 0
    with ExitStack() as stack:
        try:  # the suffix tells OpenCV the container
            temporary = stack.enter_context(temporary_beside(path, keep_suffix=True))
        except OSError:
            raise failed from None
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
        if not writer.isOpened():
            raise failed

        def append(image: Image) -> None:
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
                _finish(temporary, path, failed)
            raise
        if frames:
            _finish(temporary, path, failed)


def _finish(temporary: Path, path: Path, failed: UserError) -> None:
    """Give a video its name once a frame of it can be read back: OpenCV says nothing about a full disk."""
    try:
        Video(temporary).close()
        os.replace(temporary, path)
    except (UserError, OSError):
        raise failed from None
