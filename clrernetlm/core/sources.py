"""Resolves the inputs of a command: images, folders, patterns, videos, cameras, addresses of streams."""

from __future__ import annotations

import glob
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.overwrite_rules import RESULTS_LOG
from clrernetlm.core.video_headers import CONTAINER_HEADER_BYTES, container_of, is_image, read_media_header

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".rm", ".ts", ".vob", ".webm", ".wmv", ".wtv",
    ".y4m",
}  # fmt: skip
LIVE_SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "udp")
SCHEMES = (*LIVE_SCHEMES, "http", "https", "mms", "tcp")
MASK_FOLDERS = ("laneseg", "seg_label")  # prefixes of the names of folders with label masks, as in CULane
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)})://.", re.IGNORECASE)


@dataclass(frozen=True)
class Stream:
    """The address of a video stream, `rtsp://camera/1`, or the path of a camera's device, `/dev/video0`.

    `str()` leaves out the user, password and query of the address, so that they do not appear in results.
    """

    address: str = field(repr=False)

    @property
    def is_device(self) -> bool:
        """Return whether this is a camera of this machine."""
        return _DEVICE.fullmatch(self.address) is not None

    @property
    def is_live(self) -> bool:
        """Return whether frames that are not read in time are lost; False for `http`, which may be live or recorded."""
        return urlsplit(self.address).scheme.lower() in LIVE_SCHEMES

    @property
    def may_be_recorded(self) -> bool:
        """Return whether this may be a file on a server, which has an end."""
        return not self.is_live and not self.is_device

    def __str__(self) -> str:
        if self.is_device:
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


Source = Path | int | Stream  # a video file, the number of a camera, a stream


@dataclass(frozen=True)
class Inputs:
    """Images and videos, each once, in the order in which they were named.

    `relative_paths` maps a file that was found in a folder to its path relative to the folder that was named.
    """

    images: list[Path]
    videos: list[Source]
    relative_paths: dict[Path, Path] = field(default_factory=dict)


def is_input(argument: str) -> bool:
    """Check whether an argument names images, videos or cameras, existing or not, and not a config."""
    return (
        has_media_suffix(argument)
        or _is_camera(argument)
        or _is_stream(argument)
        or _is_data_path(Path(argument))
        or glob.has_magic(argument)
    )


def has_media_suffix(argument: str) -> bool:
    """Check whether an argument ends in the suffix of an image or a video."""
    return Path(argument).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def find_inputs(arguments: Sequence[str], results: PathLike | None = None) -> Inputs:
    """Find the images and videos that `arguments` name.

    A folder stands for the files in it and in its subfolders, in the order of their names, without hidden ones
    (`._x.jpg`). A pattern (`photos/**/*.jpg`) that is no file stands for the images and videos it matches, a number for
    a camera, `rtsp://...` and `/dev/video0` for a stream. Whether a named file is an image or a video is decided by its
    content, not by its suffix. `results`: folder of the results; it is left out, as are folders with earlier results,
    and, with a warning, folders of label masks (`MASK_FOLDERS`) unless they are named.

    Raises UserError for a missing input, for a folder or pattern without any image or video, and for no arguments.
    """
    if not arguments:
        raise UserError("input: none given; name images, folders or videos")
    images: dict[Path, None] = {}
    videos: dict[Source, None] = {}
    relative_paths: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if not argument:
            raise UserError("input: an empty name; name images, folders or videos")
        if _is_stream(argument) and not os.path.isfile(path):
            videos[_stream(argument)] = None
        elif os.path.isdir(path) or os.path.isfile(path):
            _add_file_or_folder(path, results, images, videos, relative_paths)
        elif _is_camera(argument):
            videos[int(argument)] = None
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            _add_matches(argument, results, images, videos, relative_paths)
        elif os.path.exists(path):
            raise UserError(f"{path}: a pipe or device, not a file; save what comes from it, or name a camera's number")
        else:
            known = "" if "://" not in argument else f"; addresses begin with {', '.join(SCHEMES)}"
            raise UserError(f"{argument if known else path}: no such file or folder{known}")
    return Inputs(list(images), list(videos), relative_paths)


def _add_file_or_folder(
    path: Path,
    results: PathLike | None,
    images: dict[Path, None],
    videos: dict[Source, None],
    relative_paths: dict[Path, Path],
) -> None:
    if os.path.isfile(path):
        (videos if _is_video(path) else images)[path] = None
        return
    found = False
    for file in files_below(path, results):
        found = _add_by_suffix(file, path, images, videos, relative_paths) or found
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise UserError(f"{path}: no image or video in this folder ({suffixes})")


def _add_matches(
    pattern: str,
    results: PathLike | None,
    images: dict[Path, None],
    videos: dict[Source, None],
    relative_paths: dict[Path, Path],
) -> None:
    """Add the matches of a pattern; their paths are relative to the folder before its first wildcard."""
    parts = Path(pattern).parts
    plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    root, found = Path(*parts[:plain]), False
    masks_too = any(name in part.lower() for part in parts[plain:] for name in MASK_FOLDERS)

    @cache
    def left_out(folder: Path) -> bool:
        if root not in folder.parents:
            return False
        if _is_mask_folder(folder.name) and not masks_too:
            _warn_of_masks(folder)
            return True
        return _holds_results(folder, results) or left_out(folder.parent)

    for match in sorted(glob.iglob(pattern, recursive=True)):
        path = Path(match)
        is_folder = path.is_dir()
        if left_out(path if is_folder else path.parent):
            continue
        for file in files_below(path, results) if is_folder else [path]:
            found = _add_by_suffix(file, root, images, videos, relative_paths) or found
    if not found:
        raise UserError(f"{pattern}: no image or video matches this pattern; check it")


def _add_by_suffix(
    file: Path, root: Path, images: dict[Path, None], videos: dict[Source, None], relative_paths: dict[Path, Path]
) -> bool:
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        images[file] = None
    elif suffix in VIDEO_SUFFIXES:
        (videos if _is_video(file) else images)[file] = None
    else:
        return False
    relative_paths[file] = file.relative_to(root)
    return True


def files_below(folder: Path, results: PathLike | None = None) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, in the order of their names, without hidden ones.

    Links are followed, also to folders, each of which is visited once. `results` and folders with results of an earlier
    `detect` are left out. Raises UserError for a folder that cannot be listed; a subfolder is left out with a
    warning, as is one of label masks.
    """
    folders, visited = [folder], set()
    while folders:
        current = folders.pop()
        try:
            with os.scandir(current) as listing:
                entries = sorted(
                    (entry for entry in listing if not entry.name.startswith(".")), key=lambda entry: entry.name
                )
            status = os.stat(current)
        except OSError as error:
            message = f"{current}: cannot be listed ({error.strerror})"
            if current == folder:
                raise UserError(f"{message}; check permissions") from None
            warnings.warn(f"{message}; left out", stacklevel=2)
            continue
        if (status.st_dev, status.st_ino) in visited or (current != folder and _holds_results(current, results)):
            continue
        visited.add((status.st_dev, status.st_ino))
        inside = [current / entry.name for entry in entries if entry.is_dir()]
        masks = [path for path in inside if _is_mask_folder(path.name)]
        for path in masks:
            _warn_of_masks(path)
            inside.remove(path)
        folders += reversed(inside)
        # A broken link is yielded, so that reading it raises an error; a pipe is not, because reading would wait.
        yield from (current / entry.name for entry in entries if entry.is_file() or _is_broken_link(entry))


def _is_mask_folder(name: str) -> bool:
    return name.lower().startswith(MASK_FOLDERS)


def _warn_of_masks(folder: Path) -> None:
    warnings.warn(f"{folder}: label masks by its name, left out; name the folder to detect in it", stacklevel=2)


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _holds_results(folder: Path, results: PathLike | None) -> bool:
    """Check whether a folder holds results of `detect`, or is the one they will be written to."""
    if results is not None and os.path.exists(results) and os.path.samefile(folder, results):
        return True
    with os.scandir(folder) as entries:
        names = {entry.name for entry in entries}
    # Results of videos; with a label file beside it, `<stem>.lanes.json` has the attributes of labelled lanes instead.
    videos = (name for name in names if name.endswith(".lanes.json"))
    return bool(names & {RESULTS_LOG, "lanes.json"}) or any(
        name.removesuffix(".lanes.json") + ".lines.txt" not in names for name in videos
    )


def result_names(paths: Sequence[Path], relative_paths: Mapping[Path, Path] | None = None) -> list[str]:
    """Make the names of results, without suffixes: the file's stem, with its subfolders in `relative_paths`.

    Repeated names are prefixed by the name of the folder that was named, or else of the file's (`clip.MP4-00000`).
    Names that differ only in the case of letters, which are equal in some file systems, are numbered from the second on
    (`X`, `x-2`). Raises UserError for two files whose names are still equal.
    """
    relative = [(relative_paths or {}).get(path, Path(path.name)) for path in paths]
    stems = [path.with_name(path.stem).as_posix() for path in relative]
    occurrences = Counter(stems)
    names = [
        stem if occurrences[stem] == 1 else f"{path.resolve().parents[len(inside.parts) - 1].name}-{stem}"
        for path, inside, stem in zip(paths, relative, stems, strict=True)
    ]
    first: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        other = first.setdefault(name, path)
        if other != path:
            raise UserError(f"{path}: its results would overwrite those of {other}; detect them into two folders")
    return _different_in_any_case(names)


def _different_in_any_case(names: Sequence[str]) -> list[str]:
    """Number names that differ from an earlier one, or from an already numbered one, only in the case of letters."""
    given, used, result = {name.casefold() for name in names}, set[str](), []
    for name in names:
        free = name
        if name.casefold() in used:
            numbered = (f"{name}-{number}" for number in count(2))
            free = next(other for other in numbered if other.casefold() not in given and other.casefold() not in used)
        used.add(free.casefold())
        result.append(free)
    return result


def source_file_name(source: Source) -> Path:
    """Make a file name for the results of a video: its own, `camera0`, or the host and path of an address."""
    if isinstance(source, Path):
        return source
    if isinstance(source, int):
        return Path(f"camera{source}")
    if source.is_device:
        return Path(source.address).relative_to("/dev")
    text = str(source).partition("://")[2].rstrip("/")
    head, dot, suffix = text.rpartition(".")
    text = head if f"{dot}{suffix.lower()}" in VIDEO_SUFFIXES | {".m3u8", ".mpd", ".sdp"} else text
    # With a suffix, because the name of the results is the stem.
    return Path(re.sub(r"[^\w.-]+", "-", text).strip("-.")[:100] + ".stream")


def _is_video(path: Path) -> bool:
    """Check whether a file is a video by its content, or by its suffix if the content is not recognised."""
    suffix = path.suffix.lower()
    by_suffix = suffix in VIDEO_SUFFIXES
    try:
        head = read_media_header(path, CONTAINER_HEADER_BYTES if suffix not in IMAGE_SUFFIXES else 4096)
    except OSError:
        return by_suffix
    return container_of(head) is not None or (by_suffix and not is_image(head))


def _is_camera(argument: str) -> bool:
    return argument.isascii() and argument.isdigit() and len(argument) <= 3 and not Path(argument).exists()


def _is_stream(argument: str) -> bool:
    return _ADDRESS.match(argument) is not None or _DEVICE.fullmatch(argument) is not None


def _stream(argument: str) -> Stream:
    stream = Stream(argument)
    try:
        str(stream)
        return stream
    except ValueError as error:
        raise UserError(f"{argument}: not an address ({error}); use the form rtsp://host:port/path") from None


def _is_data_path(path: Path) -> bool:
    return os.path.isdir(path) or (os.path.isfile(path) and path.suffix != ".py")
