"""Validates data sets in CULane's layout: names every broken file and line, and draws a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from clrernetlm.core.argument_checks import require_path, require_sequence, require_whole_number
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import GENERATED_DATA, PathLike
from clrernetlm.core.image_list import MAX_LIST_BYTES, ImageList, ListFault, read_image_list, visible_lists
from clrernetlm.core.lane_files import label_path
from clrernetlm.core.progress import progress_bar
from clrernetlm.core.text_encoding import read_utf8
from clrernetlm.core.worker_pool import map_in_processes, worker_count
from clrernetlm.datasets.check_image import ImageReport, ListedImage, check_image, listed_file
from clrernetlm.datasets.contact_sheet import require_sheet, write_contact_sheet
from clrernetlm.datasets.data_report import DataReport, Problem, problem_from_error
from clrernetlm.datasets.frame_difference import load_differences

CATEGORY_FOLDER = "test_split"  # folder in list/ with a list for each category of test images
_MAX_SERIAL_IMAGES = 64  # images up to which starting processes takes longer than it saves


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
    """Validate a data set: lists, images, labels, attributes of lanes, masks, flags and frame differences.

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
    check = partial(check_image, str(folder), max_lanes=max_lanes, decode=decode)
    for found in progress_bar(_check_images(check, entries, workers), "Checking", len(entries)):
        report.problems.extend(found.problems)
        report.top_first += found.top_first
        if found.lanes is not None:
            report.lane_counts[found.lanes] += 1
        if found.attributes is not None:
            report.described += 1
            report.types.update(lane.type for lane in found.attributes)
            report.colours.update(lane.colour for lane in found.attributes)
        if found.size is not None:
            report.frame_sizes[found.size] += 1
    if contact_sheet is not None and entries:
        chosen = np.unique(np.linspace(0, len(entries) - 1, min(sample, len(entries))).astype(int))
        sampled = [(entries[i].image, entries[i].mask) for i in chosen]
        files = [(listed_file(str(folder), image), mask and listed_file(str(folder), mask)) for image, mask in sampled]
        report.contact_sheet = write_contact_sheet(contact_sheet, files, folder)
    return report


def _check_images(check: partial[ImageReport], entries: list[ListedImage], workers: int) -> Iterator[ImageReport]:
    """Check images in worker processes; a few, or with one worker all, in this process."""
    if workers == 1 or len(entries) <= _MAX_SERIAL_IMAGES:
        yield from map(check, entries)
        return
    yield from map_in_processes(check, entries, workers, chunk=32)


def _find_lists(root: Path) -> list[str]:
    folders = (root / "list", root / "list" / CATEGORY_FOLDER)
    found = [path for folder in folders for path in visible_lists(folder)]
    if not found:
        raise UserError(f"{root / 'list'}: no image list (*.txt) in it; write list/train_gt.txt or name your lists")
    return [str(path.relative_to(root)) for path in found]


def _entries(root: Path, lists: Iterable[str], report: DataReport) -> Iterator[ListedImage]:
    """Collect each listed image once, from the list with most information; add problems of the lists to the report."""
    entries: dict[str, ListedImage] = {}
    for name in lists:
        faults: list[ListFault] = []
        if _is_empty_on_purpose(root, root / name):
            report.lists[name] = 0
            continue
        try:
            listed = read_image_list(root / name, faults, root=root)
        except UserError as error:
            report.problems.append(problem_from_error(str(root / name), error))
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


def _list_entries(path: str, listed: ImageList, labelled: bool) -> Iterator[ListedImage]:
    for i in range(len(listed)):
        yield ListedImage(
            image=os.fsdecode(listed.images[i]),
            mask=None if listed.masks is None else os.fsdecode(listed.masks[i]),
            lanes_flagged=None if listed.flags is None else int(listed.flags[i].sum()),
            labelled=labelled,
            listed=f"{path}, line {listed.lines[i]}",
        )


def _has_label(root: Path, listed: ImageList) -> bool:
    return any(os.path.isfile(label_path(listed_file(str(root), os.fsdecode(image)))) for image in listed.images)


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
            report.problems.append(problem_from_error(str(path), error))
