"""Videos and cameras, read frame by frame, and videos written that can be played whatever happens."""

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

from clrernetlm.errors import UserError
from clrernetlm.files import PathLike, temporary_beside, temporary_folder
from clrernetlm.geometry import FrameSize, Image
from clrernetlm.inputs import IMAGE_SUFFIXES, Source
from clrernetlm.video_headers import COUNTED, container, is_playlist, read_head, turn_of_angle, turn_of_mp4

# The libraries would print theirs beside our errors. Read once, when OpenCV first opens a video; -8: quiet.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

USUAL_FPS = 25.0  # for cameras and files that do not say
MAX_FPS = 240.0
LOST = 0.02  # share of the announced frames that may be missing: containers estimate their number
MAX_PIXELS = 40_000_000  # of a frame; one of 8K has 35 million
STRETCHES = (0.25, 4.0)  # shapes of pixels, width by height, that are believed

# OpenCV 4.10 and from 4.12 on hands these to FFmpeg, 4.11 does not: what a file begins with is the lock, this a second.
_OWN_FILE_ONLY = (
    "protocol_whitelist;file|enable_drefs;0|use_absolute_path;0"
    "|format_whitelist;mov,matroska,avi,asf,flv,ogg,gif,mpeg,mpegts,mpegvideo,mpegtsraw,m4v,h264,hevc,vc1,mxf,ivf,dv,rm"
    ",wtv,nut,yuv4mpegpipe,dhav"
)
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"


class Video:
    """The frames of a video file or camera, one at a time, as players show them.

    A recording that was made with the camera turned, or with pixels that are not square, is turned and stretched as its
    file asks for. Has `size` (width, height) of the frames shown, in pixels, `fps`, and `count`, the announced number
    of frames, or None. Iterate once; `read` counts the frames given. A file is read alone: none that lists other files
    or addresses. Raises UserError when nothing can be read, and for frames of more than MAX_PIXELS.
    """

    def __init__(self, source: Source) -> None:
        level = cv2.setLogLevel(0)
        try:
            kind, self._capture = _open(source)
            with _closed_on_error(self._capture):
                require_moderate_size(source, *(self._capture.get(n) for n in _SIZE))
                there, first = self._capture.read() if self._capture.isOpened() else (False, None)
                if not there or first is None:
                    raise UserError(_unreadable(source))
                require_moderate_size(source, first.shape[1], first.shape[0])
        finally:
            cv2.setLogLevel(level)
        self._turn = turn_of_angle(self._capture.get(cv2.CAP_PROP_ORIENTATION_META))
        if kind == "mp4" and isinstance(source, Path):
            self._turn = turn_of_mp4(source) or self._turn
        self._stretch = _stretch(self._capture)
        self.source, self.read, self._first = source, 0, self._shown(first)
        self.size: FrameSize = (self._first.shape[1], self._first.shape[0])
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if math.isfinite(fps) and 0 < fps <= MAX_FPS else USUAL_FPS
        self.count = int(count) if isinstance(source, Path) and 0 < count < 1e9 else None
        self._counted = kind in COUNTED
        self._start = time.monotonic()

    def __iter__(self) -> Iterator[Image]:
        there, image = True, self._first
        while there:
            self.read += 1
            self._now = time.monotonic()
            yield image
            there, raw = self._capture.read()
            if there:
                image = self._shown(raw)

    def _shown(self, image: Any) -> Image:
        """A decoded frame as (H, W, 3) uint8 BGR, stretched and turned as its file asks for."""
        image = np.asarray(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
        if self._stretch != 1:
            image = np.asarray(
                cv2.resize(image, (max(1, round(image.shape[1] * self._stretch)), image.shape[0])), np.uint8
            )
        a, b, c, d = self._turn
        if b:
            image, a, d = np.asarray(cv2.transpose(image), np.uint8), c, b
        if a < 0 or d < 0:
            image = np.asarray(cv2.flip(image, -1 if a < 0 and d < 0 else int(a < 0)), np.uint8)
        return image

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
        """Whether the file ended clearly before its announced number of frames, where its container knows that."""
        return self._counted and self.count is not None and self.read < self.count - max(2, LOST * self.count)

    def close(self) -> None:
        self._capture.release()

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_SIZE = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)


def require_moderate_size(source: Source, width: float, height: float) -> None:
    """Raise UserError for frames of `width` x `height` pixels that no camera takes and no memory holds."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{source}: frames of {width:.0f}x{height:.0f}; at most {MAX_PIXELS // 1_000_000} million pixels are read, "
            "scale the video down"
        )


def _open(source: Source) -> tuple[str | None, cv2.VideoCapture]:
    """Open a source with the one OpenCV backend that is for it; returns its container, None for a camera."""
    if isinstance(source, int):
        return None, cv2.VideoCapture(source)
    try:
        head = read_head(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or 'not a file'}); check the path") from None
    kind = container(head)
    if kind is None:
        raise UserError(_refused(source, head))
    with name_for_opencv(source) as name, _options(_OWN_FILE_ONLY):
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # OpenCV's own turns know no mirrors; off in most versions
    return kind, capture


@contextmanager
def _closed_on_error(capture: cv2.VideoCapture) -> Iterator[None]:
    try:
        yield
    except BaseException:
        capture.release()
        raise


@contextmanager
def _options(own: str) -> Iterator[None]:
    """Options for FFmpeg behind those of the environment, for the time of opening one video."""
    before = os.environ.get(_OPTIONS)
    os.environ[_OPTIONS] = f"{before}|{own}" if before else own
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_OPTIONS, None)
        else:
            os.environ[_OPTIONS] = before


@contextmanager
def name_for_opencv(path: PathLike) -> Iterator[str]:
    """A name of a video file to open with OpenCV inside the block: its absolute path, or a link to it.

    OpenCV crashes on names that are not UTF-8, and FFmpeg believes the suffix of an image, and takes `%04d` before one
    for a series of them: those get a link with a plain name in a temporary folder. An absolute path is never taken for
    an address (`data:`, `concat:`). Raises UserError when the link cannot be made.
    """
    absolute = Path(os.path.abspath(path))
    suffix = absolute.suffix.lower()
    like_images = suffix in IMAGE_SUFFIXES or (suffix == ".gif" and "%" in absolute.name)
    if is_utf8(absolute) and not like_images:
        yield str(absolute)
        return
    plain = suffix.isascii() and suffix[1:].isalnum() and not like_images
    with ExitStack() as stack:
        try:
            link = stack.enter_context(temporary_folder()) / f"video{suffix if plain else ''}"
            link.symlink_to(absolute)
            str(link).encode()
        except (OSError, UnicodeEncodeError) as error:
            reason = getattr(error, "strerror", None) or "the folder for temporary files has one like it"
            raise UserError(f"{path}: OpenCV cannot open a video of this name ({reason}); rename it") from None
        yield str(link)


def is_utf8(path: PathLike) -> bool:
    """Whether a path can be written in UTF-8; file systems also take bytes that are not."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _stretch(capture: cv2.VideoCapture) -> float:
    """Width of a pixel by its height; 1 where the file does not say, or says what no camera does."""
    width, height = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    ratio = width / height if width > 0 and height > 0 else 1.0
    return ratio if STRETCHES[0] <= ratio <= STRETCHES[1] else 1.0


def _refused(path: Path, head: bytes) -> str:
    if is_playlist(head):
        return f"{path}: a playlist, not a video; what it lists is not opened, name the videos themselves"
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG", b"BM", b"II*\x00", b"MM\x00*")):
        return f"{path}: an image, not a video; give the file an image's suffix, such as .jpg"
    return _unreadable(path)


def _unreadable(source: Source) -> str:
    if isinstance(source, int):
        return f"{source}: no camera of this number gives pictures; check that it is connected and free"
    return f"{source}: not a video, or cut short; no frame can be read"


@contextmanager
def video_file(
    path: Path, size: FrameSize, fps: float, rename: Callable[[Path, Path], None] = os.replace
) -> Iterator[Callable[[Image], None]]:
    """A function that appends (H, W, 3) BGR images to the MPEG-4 video `path`.

    The file appears at the end of the block, whole; also when it ends by Ctrl-C. After any other error, and when
    nothing was appended, there is none. Images of another size than `size` (width, height) are scaled to it. `rename`
    gives the finished file its name. Raises UserError when it cannot be written.
    """
    failed = UserError(f"{path}: cannot be written; free space or check permissions")
    frames = 0
    with ExitStack() as stack:
        try:  # the suffix tells OpenCV the container
            temporary = stack.enter_context(temporary_beside(path, keep_suffix=True))
        except OSError:
            raise failed from None
        with name_for_opencv(temporary) as name:
            writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, size)
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
                _finish(temporary, path, failed, rename)
            raise
        if frames:
            _finish(temporary, path, failed, rename)


def _finish(temporary: Path, path: Path, failed: UserError, rename: Callable[[Path, Path], None]) -> None:
    """Give a video its name once a frame of it can be read back: OpenCV says nothing about a full disk."""
    try:
        Video(temporary).close()
        rename(temporary, path)
    except (UserError, OSError):
        raise failed from None
