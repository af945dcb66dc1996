"""What the words of a command stand for: images, folders, videos, cameras."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clrernetlm.errors import UserError

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEO_SUFFIXES = {
    ".3g2", ".3gp", ".asf", ".avi", ".dv", ".f4v", ".flv", ".gif", ".ivf", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov",
    ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogg", ".ogv", ".rm", ".ts", ".vob", ".webm", ".wmv", ".wtv",
    ".y4m",
}  # fmt: skip
Source = Path | int  # a video file, or the number of a camera


@dataclass(frozen=True)
class Inputs:
    """Files to look at, each once, in the order they were named."""

    images: list[Path]
    videos: list[Source]


def is_input(word: str) -> bool:
    """Whether a word stands for an image, a folder, a video or a camera, be it there or not; not for a config."""
    return is_picture(word) or _is_camera(word) or _is_there(Path(word))


def is_picture(word: str) -> bool:
    """Whether a word is named like an image or a video."""
    return Path(word).suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES


def find_inputs(words: Sequence[str]) -> Inputs:
    """The images and videos that `words` name; a folder stands for those directly inside it, in order of their names.

    A number that is no file is a camera. Raises UserError for a missing one, a folder without any, and no words.
    """
    if not words:
        raise UserError("input: none given; name images, folders or videos")
    images: list[Path] = []
    videos: list[Source] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            files = sorted(path.iterdir())
            pictures = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
            clips = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES and file.is_file()]
            if not pictures and not clips:
                suffixes = ", ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
                raise UserError(f"{path}: no image or video in this folder ({suffixes})")
            images += pictures
            videos += clips
        elif path.is_file():
            (videos if path.suffix.lower() in VIDEO_SUFFIXES else images).append(path)
        elif _is_camera(word):
            videos.append(int(word))
        else:
            raise UserError(f"{path}: no such file or folder")
    return Inputs(list(dict.fromkeys(images)), list(dict.fromkeys(videos)))


def result_names(paths: Sequence[Path]) -> list[str]:
    """Names of the results: the file's stem; where stems repeat, the folder's name goes in front (`clip.MP4-00000`).

    Raises UserError when that does not tell two files apart.
    """
    repeated = Counter(path.stem for path in paths)
    names = [path.stem if repeated[path.stem] == 1 else f"{path.resolve().parent.name}-{path.stem}" for path in paths]
    first: dict[str, Path] = {}
    for path, name in zip(paths, names, strict=True):
        other = first.setdefault(name, path)
        if other != path:
            raise UserError(f"{path}: its results would overwrite those of {other}; detect them into two folders")
    return names


def _is_camera(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 3 and not Path(word).exists()


def _is_there(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix != ".py")
