"""Lanes of images and folders, as text, JSON and overlays: `clrernetlm detect`."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from rich.console import Console
from rich.progress import track

from clrernetlm.config import Config
from clrernetlm.data.images import read_image
from clrernetlm.drawing import draw_lanes
from clrernetlm.errors import UserError
from clrernetlm.files import replacing, write_text_atomically
from clrernetlm.geometry import FrameSize
from clrernetlm.lane import Lane, write_lines
from clrernetlm.models.decode import prediction_points
from clrernetlm.predictor import Predictor

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def detect(
    config: Config,
    checkpoint: str | None,
    inputs: Sequence[str],
    out: str,
    conf: float | None = None,
    device: str = "cpu",
) -> dict[str, list[Lane]]:
    """Detect lanes in images and folders of images; returns {path: lanes in frame pixels}.

    `out` gets `<stem>.lines.txt` (CULane text), `<stem>.jpg` (overlay) per image and one `lanes.json`. Raises UserError
    for a missing input, or two that would get the same results, before any work is done; unreadable files are
    named, the others finished, and UserError raised at the end.
    """
    paths = find_images(inputs)
    names = dict(zip(paths, result_names(paths), strict=True))
    folder = Path(out)
    if not checkpoint:
        raise UserError("checkpoint: none given; without weights a detector finds nothing")
    predictor = Predictor(config, checkpoint, device)
    found: dict[str, list[Lane]] = {}
    unreadable: list[Path] = []
    warned: set[FrameSize] = set()
    progress = track(paths, "Detecting", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    for path in progress:
        try:
            image = read_image(str(path), cv2.IMREAD_COLOR)
        except UserError:
            unreadable.append(path)
            continue
        frame = (image.shape[1], image.shape[0])
        if config.evaluation.image_size is not None:
            warn_about_shape(frame, config.evaluation.image_size, warned)
        predictor.set_image(image)
        lanes = found[str(path)] = predictor.lanes(conf)
        write_lines(folder / f"{names[path]}.lines.txt", [prediction_points(lane, frame) for lane in lanes])
        write_jpeg(folder / f"{names[path]}.jpg", draw_lanes(image, lanes))
    write_text_atomically(folder / "lanes.json", json.dumps(as_json(found), indent=1))
    print(f"{sum(map(len, found.values()))} lanes in {len(found)} images -> {folder}")
    if unreadable:
        listed = ", ".join(map(str, unreadable[:3])) + (", ..." if len(unreadable) > 3 else "")
        raise UserError(f"{listed}: {len(unreadable)} of {len(paths)} images cannot be decoded; the others are done")
    return found


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Image files named by `inputs`; a folder stands for the images directly inside it, in order of their names."""
    if not inputs:
        raise UserError("input: none given; name images or folders")
    paths: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UserError(f"{path}: no image in this folder ({', '.join(sorted(IMAGE_SUFFIXES))})")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise UserError(f"{path}: no such file or folder")
    return list(dict.fromkeys(paths))


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


def warn_about_shape(frame: FrameSize, expected: FrameSize, warned: set[FrameSize]) -> None:
    """Say once per frame size that the crop was made for frames of another shape."""
    ratio = (frame[0] / frame[1]) / (expected[0] / expected[1])
    if frame not in warned and not 0.8 < ratio < 1.25:
        warned.add(frame)
        warnings.warn(
            f"{frame[0]}x{frame[1]} frames have another shape than the {expected[0]}x{expected[1]} ones this "
            "configuration is for; if lanes look wrong, set --model.viewport.top to the row where the road begins "
            "(0 = top, 1 = bottom)",
            stacklevel=3,
        )


def write_jpeg(path: Path, image: Any) -> None:
    """Write an overlay in one step; raises UserError when the disk refuses."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1]
    with replacing(path) as temporary:
        temporary.write_bytes(encoded.tobytes())


def as_json(found: dict[str, list[Lane]]) -> list[dict[str, Any]]:
    """[{image, lanes: [{score, points [[x, y], ...]}]}] with points in frame pixels, bottom first."""
    return [
        {
            "image": path,
            "lanes": [{"score": round(lane.score, 4), "points": lane.points.round(2).tolist()} for lane in lanes],
        }
        for path, lanes in found.items()
    ]
