"""Opens videos with OpenCV: a file alone, without others that it may name, and streams and cameras."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, has_utf8_name, temporary_folder
from clrernetlm.core.sources import IMAGE_SUFFIXES, Source, Stream
from clrernetlm.core.video_headers import container_of, is_image, is_playlist, read_media_header

# Silences FFmpeg's own messages (-8: quiet). Read once, when OpenCV first opens a video.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

MAX_PIXELS = 40_000_000  # of a frame; one of 8K has 35 million

# A second barrier behind the check of a file's first bytes: OpenCV passes these to FFmpeg, except version 4.11.
_OWN_FILE_ONLY = (
    "protocol_whitelist;file|enable_drefs;0|use_absolute_path;0"
    "|format_whitelist;mov,matroska,avi,asf,flv,ogg,gif,mpeg,mpegts,mpegvideo,mpegtsraw,m4v,h264,hevc,vc1,mxf,ivf,dv,rm"
    ",wtv,nut,yuv4mpegpipe,dhav"
)
# Addresses may refer to playlists and these to other addresses, but not to files of this machine.
_NETWORK_ONLY = (
    "rtsp_flags;prefer_tcp|protocol_whitelist;"
    "http,https,httpproxy,tls,tcp,udp,rtp,srtp,rtsp,rtmp,rtmpe,rtmps,rtmpt,rtmpts,srt,mmsh,mmst,crypto,data,hls"
)
TIMEOUTS = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 15_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10_000]
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_SIZE = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
_opening = threading.Lock()  # OpenCV reads its options from the environment, which all threads share


def require_moderate_size(source: Source, width: float, height: float) -> None:
    """Raise UserError for frames of more than MAX_PIXELS, which no camera takes."""
    if width * height > MAX_PIXELS:
        raise UserError(
            f"{source}: frames of {width:.0f}x{height:.0f}; at most {MAX_PIXELS // 1_000_000} million pixels are read, "
            "scale the video down"
        )


def open_video(source: Source) -> tuple[str | None, cv2.VideoCapture, Any]:
    """Open a source with its one OpenCV backend, and read its first frame, as recorded.

    Returns the container (None for sources that are not files), the opened video and the frame. Raises UserError if
    nothing can be read, and for frames of more than MAX_PIXELS.
    """
    with _silence:
        kind, capture = _open(source)
    try:
        require_moderate_size(source, *(capture.get(number) for number in _SIZE))
        there, first = read_frame(capture) if capture.isOpened() else (False, None)
        if not there or first is None:
            raise UserError(_unreadable(source))
        require_moderate_size(source, first.shape[1], first.shape[0])
    except BaseException:
        capture.release()
        raise
    return kind, capture, first


def read_frame(capture: cv2.VideoCapture) -> tuple[bool, Any]:
    """Read the next frame of an opened video; returns (whether there is one, the frame as recorded)."""
    with _silence:
        try:
            return capture.read()
        except cv2.error:  # a frame that OpenCV cannot convert, or has no memory for
            return False, None


class _Silence:
    """Context that switches OpenCV's own messages off while any thread is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._level = 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._level = cv2.setLogLevel(0)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                cv2.setLogLevel(self._level)


_silence = _Silence()


def _open(source: Source) -> tuple[str | None, cv2.VideoCapture]:
    if isinstance(source, int):
        return None, cv2.VideoCapture(source)
    if isinstance(source, Stream):
        if source.is_device:
            return None, cv2.VideoCapture(source.address, cv2.CAP_V4L2)
        with _options(_NETWORK_ONLY):
            return None, cv2.VideoCapture(source.address, cv2.CAP_FFMPEG, TIMEOUTS)
    try:
        head = read_media_header(source)
    except OSError as error:
        raise UserError(f"{source}: cannot be read ({error.strerror or 'not a file'}); check the path") from None
    kind = container_of(head)
    if kind is None:
        raise UserError(_refused(source, head))
    with name_for_opencv(source) as name, _options(_OWN_FILE_ONLY):
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)  # OpenCV's own does not mirror, and is off in most versions
    return kind, capture


@contextmanager
def _options(own: str) -> Iterator[None]:
    """Set options for FFmpeg, after those of the environment, while one video is opened."""
    with _opening:
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
    """Give a name under which OpenCV can open a video file inside the block: its absolute path, or a link to it.

    OpenCV crashes on names that are not UTF-8, and FFmpeg reads files with an image's suffix as images, and `%04d`
    before it as a series of them; for such files a link with a plain name is made in a temporary folder. An absolute
    path cannot be mistaken for an address (`data:`, `concat:`). Raises UserError if the link cannot be made.
    """
    absolute = Path(os.path.abspath(path))
    suffix = absolute.suffix.lower()
    like_images = suffix in IMAGE_SUFFIXES or (suffix == ".gif" and "%" in absolute.name)
    if has_utf8_name(absolute) and not like_images:
        yield str(absolute)
        return
    plain = suffix.isascii() and suffix[1:].isalnum() and not like_images
    with ExitStack() as stack:
        try:
            link = stack.enter_context(temporary_folder()) / f"video{suffix if plain else ''}"
            link.symlink_to(absolute)
            reason = "" if has_utf8_name(link) else "the folder for temporary files has one like it"
        except OSError as error:
            reason = error.strerror or str(error)
        if reason:
            raise UserError(f"{path}: OpenCV cannot open a video of this name ({reason}); rename it")
        yield str(link)


def _refused(path: Path, head: bytes) -> str:
    if is_playlist(head):
        return f"{path}: a playlist, not a video; what it lists is not opened, name the videos themselves"
    if is_image(head):
        return f"{path}: an image, not a video; give the file an image's suffix, such as .jpg"
    return _unreadable(path)


def _unreadable(source: Source) -> str:
    if isinstance(source, int):
        return f"{source}: no camera of this number gives pictures; check that it is connected and free"
    if isinstance(source, Stream):
        check = "that it is connected and free" if source.is_device else "the address, and that it answers"
        return f"{source}: no pictures come from there; check {check}"
    return f"{source}: not a video, or cut short; no frame can be read"
