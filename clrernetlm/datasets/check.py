"""Validates data sets in CULane's layout: names every broken file and line, and draws a contact sheet."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from clrernetlm.core.argument_checks import require_path, require_sequence, require_whole_number
from clrernetlm.core.arrays import Float64Array
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import GENERATED_DATA, PathLike
from clrernetlm.core.image_list import MAX_LIST_BYTES, ImageList, ListFault, read_image_list, visible_lists
from clrernetlm.core.images import read_image, require_complete
from clrernetlm.core.lane import describe_turn, label_path, parse_lane, read_lane_file_rows
from clrernetlm.core.lane_points import bottom_first
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.text_encoding import read_utf8
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.datasets.contact_sheet import require_sheet, write_contact_sheet
from clrernetlm.datasets.frame_difference import load_differences
from clrernetlm.datasets.masks import read_mask, used_values
from clrernetlm.models.clrernet.targets import IGNORED_LABEL

SHOWN_PROBLEMS = 50
CATEGORY_FOLDER = "test_split"  # folder in list/ with a list for each category of test images
_MAX_SERIAL_IMAGES = 64  # images up to which starting processes takes longer than it saves


@dataclass(frozen=True)
class Problem:
    """A fault of a data set. `line` counts from 1; None: the whole file."""

    path: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = self.path if self.line is None else f"{self.path}, line {self.line}"
        return f"{where}: {self.message}"


@dataclass
class DataReport:
    """The result of `check_data`: problems, images per list, images per number of lanes, frames per size.

    `top_first` counts lanes written from the top downwards; this package reads them, other tools may not.
    """

    root: str
    problems: list[Problem] = field(default_factory=list)
    lists: dict[str, int] = field(default_factory=dict)
    lane_counts: Counter[int] = field(default_factory=Counter)
    frame_sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    top_first: int = 0
    contact_sheet: str | None = None

    @property
    def exit_code(self) -> int:
        """0 without problems, 1 otherwise."""
        return 1 if self.problems else 0

    def print(self, console: Console | None = None) -> None:
        """Print the problems, at most `SHOWN_PROBLEMS` of them, and a summary."""
        console = console or Console()
        for problem in self.problems[:SHOWN_PROBLEMS]:
            console.print(str(problem), style="red", markup=False, highlight=False, soft_wrap=True)
        if len(self.problems) > SHOWN_PROBLEMS:
            console.print(f"... and {len(self.problems) - SHOWN_PROBLEMS} more problems", style="red")
        table = Table(title=self.root, title_justify="left", show_header=False)
        for name, count in self.lists.items():
            table.add_row(name, f"{count} images")
        for (width, height), count in self.frame_sizes.most_common(5):
            table.add_row(f"{width}x{height}", f"{count} images")
        for lanes, count in sorted(self.lane_counts.items()):
            table.add_row("1 lane" if lanes == 1 else f"{lanes} lanes", f"{count} images")
        if self.top_first:
            table.add_row("top first", f"{self.top_first} lanes start at the top; fine here, unusual elsewhere")
        if self.contact_sheet:
            table.add_row("contact sheet", self.contact_sheet)
        table.add_row("problems", str(len(self.problems)), style="red" if self.problems else "green")
        console.print(table)


@dataclass(frozen=True)
class _ListedImage:
    """An image of the lists; `labelled`: a label file must exist."""

    image: str
    mask: str | None
    lanes_flagged: int | None
    labelled: bool
    listed: str  # list file and line, for messages


@dataclass(frozen=True)
class _ImageReport:
    """The result of checking one image."""

    problems: list[Problem]
    lanes: int | None
    top_first: int
    size: tuple[int, int] | None


def check_data(
    root: PathLike,
    lists: Sequence[str] | None = None,
    *,
    contact_sheet: PathLike | None = "contact_sheet.jpg",
    workers: int = 0,
    sample: int = 24,
    max_lanes: int = 4,
    decode: bool = False,
    overwrite: bool = False,
) -> DataReport:
    """Validate a data set: lists, images, labels, masks, existence flags and frame differences.

    `lists` are relative to `root`; None takes `list/*.txt` and `list/test_split/*.txt`. JPEG files are checked by
    header and end marker, with `decode` by decoding them. Masks are always decoded. A list with neither masks nor flags
    counts as unlabelled if none of its images has a label file. `contact_sheet` is the image file to write, with up to
    `sample` images, their lanes and masks; None writes none. A sheet of the same data set is replaced, another one with
    `overwrite`, any other file never. `workers` 0 uses every core.

    Raises UserError if `root` is no folder or holds no list; all other faults are in the report.
    """
    require_path(root, "root")
    require_whole_number(max_lanes, "max_lanes", 0, 254)
    if lists is not None:
        require_sequence(lists, "lists", "image lists")
        for name in lists:
            require_path(name, "lists")
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that holds `list/`")
    workers = worker_count(workers)
    if contact_sheet is not None:
        require_sheet(contact_sheet, folder, overwrite)
    report = DataReport(str(root))
    entries = list(_entries(folder, lists if lists is not None else _find_lists(folder), report))
    inspect = partial(_inspect, str(folder), max_lanes=max_lanes, decode=decode)
    for found in progress_bar(_inspect_all(inspect, entries, workers), "Checking", len(entries)):
        report.problems.extend(found.problems)
        report.top_first += found.top_first
        if found.lanes is not None:
            report.lane_counts[found.lanes] += 1
        if found.size is not None:
            report.frame_sizes[found.size] += 1
    if contact_sheet is not None and entries:
        chosen = np.unique(np.linspace(0, len(entries) - 1, min(sample, len(entries))).astype(int))
        sampled = [(entries[i].image, entries[i].mask) for i in chosen]
        pictures = [
            (_listed_path(str(folder), image), mask and _listed_path(str(folder), mask)) for image, mask in sampled
        ]
        report.contact_sheet = write_contact_sheet(contact_sheet, pictures, folder)
    return report


def _inspect_all(inspect: partial[_ImageReport], entries: list[_ListedImage], workers: int) -> Iterator[_ImageReport]:
    if workers == 1 or len(entries) <= _MAX_SERIAL_IMAGES:
        yield from map(inspect, entries)
        return
    yield from map_in_processes(inspect, entries, workers, chunk=32)


def _find_lists(root: Path) -> list[str]:
    folders = (root / "list", root / "list" / CATEGORY_FOLDER)
    found = [path for folder in folders for path in visible_lists(folder)]
    if not found:
        raise UserError(f"{root / 'list'}: no image list (*.txt) in it; write list/train_gt.txt or name your lists")
    return [str(path.relative_to(root)) for path in found]


def _entries(root: Path, lists: Iterable[str], report: DataReport) -> Iterator[_ListedImage]:
    """Collect each listed image once, from the list with most information; add problems of the lists to the report."""
    entries: dict[str, _ListedImage] = {}
    for name in lists:
        faults: list[ListFault] = []
        if _is_empty_on_purpose(root, root / name):
            report.lists[name] = 0
            continue
        try:
            listed = read_image_list(root / name, faults, root=root)
        except UserError as error:
            report.problems.append(_from_error(str(root / name), error))
            continue
        report.problems.extend(Problem(str(root / name), line, message) for line, message in faults)
        report.lists[name] = len(listed)
        _check_duplicates(str(root / name), listed, report)
        _check_differences(root, name, len(listed), report)
        labelled = listed.masks is not None or listed.flags is not None or _has_label(root, listed)
        for entry in _list_entries(str(root / name), listed, labelled):
            known = entries.get(entry.image)
            if known is None or (known.mask is None and entry.mask is not None):
                entries[entry.image] = entry
    return iter(entries.values())


def _is_empty_on_purpose(root: Path, path: Path) -> bool:
    """Check whether a list may be empty: of a test category that a small data set lacks, or of a generated data set."""
    try:
        return not read_utf8(path, MAX_LIST_BYTES).strip() and (
            path.parent.name == CATEGORY_FOLDER or (root / GENERATED_DATA).is_file()
        )
    except OSError:
        return False


def _list_entries(path: str, listed: ImageList, labelled: bool) -> Iterator[_ListedImage]:
    for i in range(len(listed)):
        yield _ListedImage(
            image=os.fsdecode(listed.images[i]),
            mask=None if listed.masks is None else os.fsdecode(listed.masks[i]),
            lanes_flagged=None if listed.flags is None else int(listed.flags[i].sum()),
            labelled=labelled,
            listed=f"{path}, line {listed.lines[i]}",
        )


def _has_label(root: Path, listed: ImageList) -> bool:
    return any(os.path.isfile(label_path(_listed_path(str(root), os.fsdecode(image)))) for image in listed.images)


def _check_duplicates(path: str, listed: ImageList, report: DataReport) -> None:
    _, first, inverse = np.unique(listed.images, return_index=True, return_inverse=True)
    for i in np.flatnonzero(first[inverse] != np.arange(len(listed))):
        image, line = os.fsdecode(listed.images[i]), listed.lines[first[inverse[i]]]
        report.problems.append(Problem(path, int(listed.lines[i]), f"{image} is already on line {line}; remove one"))


def _check_differences(root: Path, name: str, images: int, report: DataReport) -> None:
    path = root / "list" / "train_diffs.npz"
    if Path(name).stem == "train_gt" and path.exists():
        try:
            load_differences(path, expected=images, list_file=root / name)
        except UserError as error:
            report.problems.append(_from_error(str(path), error))


def _inspect(root: str, entry: _ListedImage, *, max_lanes: int, decode: bool) -> _ImageReport:
    """Check one image and its files. Runs in a worker process, and does not raise for a broken file."""
    problems: list[Problem] = []
    path = _listed_path(root, entry.image)
    size = _inspect_image(path, entry.listed, decode, problems)
    lanes, top_first = _inspect_labels(label_path(path), size, max_lanes, entry.labelled, problems)
    if entry.lanes_flagged is not None and lanes is not None and entry.lanes_flagged != lanes:
        message = f"{lanes} lanes, but {entry.listed} flags {entry.lanes_flagged}; make them agree"
        problems.append(Problem(label_path(path), None, message))
    if entry.mask is not None:
        _inspect_mask(_listed_path(root, entry.mask), entry.listed, size, max_lanes, lanes != 0, problems)
    return _ImageReport(problems, lanes, top_first, size)


def _inspect_image(path: str, listed: str, decode: bool, problems: list[Problem]) -> tuple[int, int] | None:
    """Read (width, height) of an image; None if it cannot be read."""
    if not os.path.isfile(path):
        problems.append(Problem(path, None, f"no such image ({listed}); restore it or remove that line"))
        return None
    try:
        header = require_complete(path)
        if header is not None and not decode:
            return header.size
        image = read_image(path)
    except UserError as error:
        problems.append(_from_error(path, error))
        return None
    return image.shape[1], image.shape[0]


def _inspect_labels(
    path: str, size: tuple[int, int] | None, max_lanes: int, labelled: bool, problems: list[Problem]
) -> tuple[int | None, int]:
    """Count the usable lanes of a label file (None without one), and those of them that start at the top."""
    if not os.path.isfile(path):
        if labelled:
            problems.append(Problem(path, None, "no label file; write one, empty if the image shows no lane"))
        return None, 0
    lanes = top_first = 0
    try:
        rows = read_lane_file_rows(path)
    except UserError as error:
        problems.append(_from_error(path, error))
        return None, 0
    for number, row in enumerate(rows, start=1):
        message, points = _inspect_lane(row, size)
        if points is not None:
            lanes += 1
            top_first += bool(points[-1, 1] > points[0, 1])
        if message:
            problems.append(Problem(path, number, message))
    if lanes > max_lanes:
        message = f"{lanes} lanes, but max_lanes is {max_lanes}; set model.max_lanes={lanes} or remove lanes"
        problems.append(Problem(path, None, message))
    return lanes, top_first


def _inspect_lane(row: bytes, size: tuple[int, int] | None) -> tuple[str | None, Float64Array | None]:
    """Check one line of a label file: (what is wrong or None, its points if it counts as a lane)."""
    try:
        points = parse_lane(row)
    except ValueError as error:
        return str(error), None
    if len(points) < 2:
        return f"a lane of {len(points)} points; it needs two, or remove the line", None
    return _inspect_points(points, size), points


def _inspect_points(points: Float64Array, size: tuple[int, int] | None) -> str | None:
    used, turns_back = bottom_first(points)
    if turns_back:
        return describe_turn(used)
    if len(np.unique(points, axis=0)) < len(points):
        return "the same point twice; remove one"
    steps = np.diff(points[:, 1])
    if (steps == 0).any():
        return f"two points on row y = {points[:-1][steps == 0][0, 1]:g}; keep one"
    if (steps > 0).any() and not (steps > 0).all():
        return f"y goes down and up again at y = {points[:-1][steps > 0][0, 1]:g}; sort the points by y, bottom first"
    if size is not None:
        width, height = size
        if (points[:, 1] < 0).any() or (points[:, 1] > height).any():
            return f"y outside the frame of {width}x{height}; cut the lane at the edge"
        if not ((points[:, 0] >= 0) & (points[:, 0] < width)).any():
            return f"the whole lane is outside the frame of {width}x{height}; remove the line"
    return None


def _inspect_mask(
    path: str,
    listed: str,
    size: tuple[int, int] | None,
    max_lanes: int,
    labelled: bool,
    problems: list[Problem],
) -> None:
    if not os.path.isfile(path):
        problems.append(Problem(path, None, f"no such mask ({listed}); restore it or use a list without masks"))
        return
    try:
        mask = read_mask(path, labelled)
    except UserError as error:
        problems.append(_from_error(path, error))
        return
    height, width = mask.shape
    if size is not None and (width, height) != size:
        message = f"{width}x{height}, but its image is {size[0]}x{size[1]}; masks need the size of their image"
        problems.append(Problem(path, None, message))
    values = used_values(mask)
    highest = values[values < IGNORED_LABEL][-1:]
    if len(highest) and highest[0] > max_lanes:
        message = f"lane number {highest[0]}, but max_lanes is {max_lanes}; set model.max_lanes or renumber the mask"
        problems.append(Problem(path, None, message))


def _from_error(path: str, error: UserError) -> Problem:
    """Convert a UserError to a problem; its message may begin with the path and a line."""
    message = str(error).removeprefix(path)
    if message.startswith(", line "):
        number, _, message = message.removeprefix(", line ").partition(":")
        return Problem(path, int(number), message.strip())
    return Problem(path, None, message.removeprefix(":").strip())


def _listed_path(root: str, listed: str) -> str:
    return os.path.join(root, listed.lstrip("/"))
