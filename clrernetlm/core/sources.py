"""What the inputs of a command stand for: images, folders, patterns, videos, cameras, addresses of streams."""

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
from clrernetlm.core.output_files import RESULTS_LOG
from clrernetlm.core.video_headers import HEAD, container_of, is_image, read_head

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".rm", ".ts", ".vob", ".webm", ".wmv", ".wtv",
    ".y4m",
}  # fmt: skip
LIVE_SCHEMES = ("rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "udp")
SCHEMES = (*LIVE_SCHEMES, "http", "https", "mms", "tcp")
MASK_FOLDERS = ("laneseg", "seg_label")  # what the names of folders with label masks begin with, as in CULane
_DEVICE = re.compile(r"/dev/(video\d+|v4l/.+)")
_ADDRESS = re.compile(rf"({'|'.join(SCHEMES)})://.", re.IGNORECASE)


@dataclass(frozen=True)
class Stream:
    """The address of a video stream, `rtsp://camera/1`, or the path of a camera's device, `/dev/video0`.

    As text it has neither the address's user and password nor its query, so that no result tells them.
    """

    address: str = field(repr=False)

    @property
    def is_device(self) -> bool:
        """Whether this is a camera of this machine."""
        return _DEVICE.fullmatch(self.address) is not None

    @property
    def is_live(self) -> bool:
        """Whether frames come when they are taken, and are lost when nobody reads; of `http` nobody can tell."""
        return urlsplit(self.address).scheme.lower() in LIVE_SCHEMES

    @property
    def may_be_recorded(self) -> bool:
        """Whether this may be a file that somebody serves, with an end."""
        return not self.is_live and not self.is_device

    def __str__(self) -> str:
        if self.is_device:
            return self.address
        parts = urlsplit(self.address)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


Source = Path | int | Stream  # a video file, the number of a camera, a stream


@dataclass(frozen=True)
class Inputs:
    """Files to look at, each once, in the order they were named.

    `below` has the path of a file that was found in a folder, relative to the folder that was named.
    """

    images: list[Path]
    videos: list[Source]
    below: dict[Path, Path] = field(default_factory=dict)


def is_input(argument: str) -> bool:
    """Whether a word stands for images, videos or cameras, be they there or not; not for a config."""
    return (
        has_media_suffix(argument)
        or _is_camera(argument)
        or _is_stream(argument)
        or _is_data_path(Path(argument))
        or glob.has_magic(argument)
    )


def has_media_suffix(argument: str) -> bool:
    """Whether a word is named like an image or a video."""
    return Path(argument).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def find_inputs(arguments: Sequence[str], results: PathLike | None = None) -> Inputs:
    """Find the images and videos that `arguments` name.

    A folder stands for those inside it and in the folders inside it, in the order of their names, but for hidden ones
    (`._x.jpg`). A pattern (`photos/**/*.jpg`) that is no file stands for the images and videos it matches, a number for
    a camera, `rtsp://...` and `/dev/video0` for a stream. A file that is named is what it contains, whatever its suffix
    says. `results`: where results are written to; the folder, and others that hold earlier results, are left out, and
    so are folders of label masks (`MASK_FOLDERS`), with a warning, unless they are named.

    Raises UserError for a missing one, a folder or pattern without any, and no words.
    """
    if not arguments:
        raise UserError("input: none given; name images, folders or videos")
    images: dict[Path, None] = {}
    videos: dict[Source, None] = {}
    below: dict[Path, Path] = {}
    for argument in arguments:
        path = Path(argument)
        if not argument:
            raise UserError("input: an empty name; name images, folders or videos")
        if _is_stream(argument) and not os.path.isfile(path):
            videos[_stream(argument)] = None
        elif os.path.isdir(path) or os.path.isfile(path):
            _add_file_or_folder(path, results, images, videos, below)
        elif _is_camera(argument):
            videos[int(argument)] = None
        elif glob.has_magic(argument) and not os.path.lexists(argument):
            _add_matches(argument, results, images, videos, below)
        elif os.path.exists(path):
            raise UserError(f"{path}: a pipe or device, not a file; save what comes from it, or name a camera's number")
        else:
            known = "" if "://" not in argument else f"; addresses begin with {', '.join(SCHEMES)}"
            raise UserError(f"{argument if known else path}: no such file or folder{known}")
    return Inputs(list(images), list(videos), below)


def _add_file_or_folder(
    path: Path,
    results: PathLike | None,
    images: dict[Path, None],
    videos: dict[Source, None],
    below: dict[Path, Path],
) -> None:
    if os.path.isfile(path):
        (videos if _is_video(path) else images)[path] = None
        return
    found = False
    for file in files_below(path, results):
        found = _add_by_suffix(file, path, images, videos, below) or found
    if not found:
        suffixes = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
        raise UserError(f"{path}: no image or video in this folder ({suffixes})")


def _add_matches(
    pattern: str,
    results: PathLike | None,
    images: dict[Path, None],
    videos: dict[Source, None],
    below: dict[Path, Path],
) -> None:
    """Add what a pattern matches; its files are named relative to the part of it that is no pattern."""
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
            found = _add_by_suffix(file, root, images, videos, below) or found
    if not found:
        raise UserError(f"{pattern}: no image or video matches this pattern; check it")


def _add_by_suffix(
    file: Path, root: Path, images: dict[Path, None], videos: dict[Source, None], below: dict[Path, Path]
) -> bool:
    suffix = file.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        images[file] = None
    elif suffix in VIDEO_SUFFIXES:
        (videos if _is_video(file) else images)[file] = None
    else:
        return False
    below[file] = file.relative_to(root)
    return True


def files_below(folder: Path, results: PathLike | None = None) -> Iterator[Path]:
    """The files in a folder and in the folders inside it, in the order of their names, without hidden ones.

    Links are followed, also to folders, each of which is visited once. Folders that hold results of an earlier `detect`
    are left out, and `results`. Raises UserError for a folder that cannot be listed; one inside is left out with a
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
        # A link that leads nowhere is a file that cannot be read, which is said when it is; a pipe would be waited for.
        yield from (current / entry.name for entry in entries if entry.is_file() or _is_broken_link(entry))


def _is_mask_folder(name: str) -> bool:
    return name.lower().startswith(MASK_FOLDERS)


def _warn_of_masks(folder: Path) -> None:
    warnings.warn(f"{folder}: label masks by its name, left out; name the folder to detect in it", stacklevel=2)


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _holds_results(folder: Path, results: PathLike | None) -> bool:
    """Whether a folder holds results of `detect`, or is the one that they will be written to."""
    if results is not None and os.path.exists(results) and os.path.samefile(folder, results):
        return True
    with os.scandir(folder) as entries:
        return any(entry.name in (RESULTS_LOG, "lanes.json") or entry.name.endswith(".lanes.json") for entry in entries)


def result_names(paths: Sequence[Path], below: Mapping[Path, Path] | None = None) -> list[str]:
    """Names of the results, without suffixes: the file's stem, below the folders that `below` has of it.

    Where names repeat, the name of the folder that was named, or else of the file's, goes in front
    (`clip.MP4-00000`). Names that differ in nothing but the case of letters, which some file systems take for one, are
    numbered from the second on (`X`, `x-2`). Raises UserError when that does not tell two files apart.
    """
    relative = [(below or {}).get(path, Path(path.name)) for path in paths]
    stems = [path.with_name(path.stem).as_posix() for path in relative]
    repeated = Counter(stems)
    names = [
        stem if repeated[stem] == 1 else f"{path.resolve().parents[len(place.parts) - 1].name}-{stem}"
        for path, place, stem in zip(paths, relative, stems, strict=True)
    ]
    first: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        other = first.setdefault(name, path)
        if other != path:
            raise UserError(f"{path}: its results would overwrite those of {other}; detect them into two folders")
    return _different_in_any_case(names)


def _different_in_any_case(names: Sequence[str]) -> list[str]:
    """Number names that differ from an earlier one, or from one numbered so, in the case of letters alone."""
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
    """A file name that says what a video is: its own, `camera0`, or the host and path of an address."""
    if isinstance(source, Path):
        return source
    if isinstance(source, int):
        return Path(f"camera{source}")
    if source.is_device:
        return Path(source.address).relative_to("/dev")
    text = str(source).partition("://")[2].rstrip("/")
    head, dot, suffix = text.rpartition(".")
    text = head if f"{dot}{suffix.lower()}" in VIDEO_SUFFIXES | {".m3u8", ".mpd", ".sdp"} else text
    # One more suffix, for the name of the results is the stem.
    return Path(re.sub(r"[^\w.-]+", "-", text).strip("-.")[:100] + ".stream")


def _is_video(path: Path) -> bool:
    """Whether a file is a video by what it contains; by its suffix where that says nothing."""
    suffix = path.suffix.lower()
    by_suffix = suffix in VIDEO_SUFFIXES
    try:
        head = read_head(path, HEAD if suffix not in IMAGE_SUFFIXES else 4096)
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
