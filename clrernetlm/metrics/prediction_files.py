"""Reads and writes predictions: a `.lines.txt` per image for the metric, `predictions.jsonl` with the scores."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import format_lines, lane_file_path
from clrernetlm.core.overwrite_rules import ResultFolder
from clrernetlm.core.text_encoding import read_bounded_lines, text_encoding

PREDICTIONS_FILE = "predictions.jsonl"


@dataclass(frozen=True)
class Prediction:
    """The predicted lanes of an image; `path` as in the image list, without the leading `/`."""

    path: str
    lanes: list[Lane]


class PredictionWriter:
    """Writes predictions image by image, with one image in memory; a context manager.

    `write(path, lanes)` makes `<folder>/<path without extension>.lines.txt`, and a line of
    `<folder>/predictions.jsonl`: `{"path": "/a/b.jpg", "lanes": [{"score": s, "points": [[x, y], ...]}, ...]}`, points
    in frame pixels with the same five digits as the text file. The JSON-lines file appears when the block ends without
    an error. `min_score`: lanes below it are written to the JSON-lines file only (for confidence sweeps).

    `source` describes the origin of the predictions (a model and a list). Predictions of the same source that are
    already in the folder are replaced, others only with `overwrite`, and any other file never: see `ResultFolder`.
    """

    def __init__(self, folder: PathLike, min_score: float = 0.0, *, source: str = "", overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.min_score = min_score
        self.source = source
        self._results = ResultFolder(folder, overwrite=overwrite, parameter="folder")
        self._images: dict[str, str] = {}  # lane file -> its image
        self._stack = ExitStack()

    @property
    def predictions_file(self) -> Path:
        """Return the path of the JSON-lines file."""
        return self.folder / PREDICTIONS_FILE

    def __enter__(self) -> PredictionWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(self._results.replacing(PREDICTIONS_FILE, self.source))
            self._lines = stack.enter_context(open(temporary, "w", encoding="utf-8"))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, path: str, lanes: Sequence[Lane]) -> None:
        """Write the lanes of an image.

        Raises UserError if the path would leave the folder, if another image has the same lane file, and if that file
        exists and must not be replaced.
        """
        image = path.lstrip("/")
        if ".." in Path(image).parts:
            raise UserError(f"{path}: an image path with `..` would be written outside {self.folder}; use a plain path")
        name = lane_file_name(image)
        other = self._images.setdefault(name, image)
        if other != image:
            raise duplicate_lane_file(other, image)
        text = format_lines([lane for lane in lanes if lane.score >= self.min_score])
        self._results.write_bytes(name, text.encode("ascii"), self.source)
        rows = [{"score": float(lane.score), "points": np.round(lane.points, 5).tolist()} for lane in lanes]
        self._lines.write(json.dumps({"path": "/" + image, "lanes": rows}) + "\n")


def lane_file_name(image: str) -> str:
    """Name the lane file of an image, relative to the folder of predictions."""
    return lane_file_path("", image)


def duplicate_lane_file(first: str, second: str) -> UserError:
    """Build the error for two images with the same lane file, such as `a.jpg` and `a.png` of one folder."""
    return UserError(
        f"/{second}: its predictions would overwrite those of /{first}, {lane_file_name(second)}; rename one"
    )


def read_predictions(path: PathLike) -> Iterator[Prediction]:
    """Read the predictions of a JSON-lines file, image by image. Raises UserError naming file and line."""
    try:
        with open(path, encoding=text_encoding(path)) as lines:
            for number, line in enumerate(read_bounded_lines(lines, path), start=1):
                if line.strip():
                    yield _parse(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected a {PREDICTIONS_FILE}") from None


def listed_path(path: object) -> str:
    """Check the path of an image in a row of JSON, and strip its leading `/`; raises ValueError for other values."""
    if not isinstance(path, str) or "\0" in path:
        raise ValueError(path)
    return path.lstrip("/")


def _parse(line: str, place: str) -> Prediction:
    try:
        row: dict[str, Any] = json.loads(line)
        lanes = [
            Lane(np.asarray(lane["points"], np.float64).reshape(-1, 2), float(lane["score"])) for lane in row["lanes"]
        ]
        path = listed_path(row["path"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError(
            f'{place}: not a prediction; expected {{"path": ..., "lanes": [{{"score": s, "points": [[x, y], ...]}}]}}'
        ) from None
    if not all(np.isfinite(lane.points).all() and np.isfinite(lane.score) for lane in lanes):
        raise UserError(f"{place}: NaN or infinite number; remove that lane")
    return Prediction(path, lanes)
