"""Reads the categories of test images: one list per category, or the images' top-level folders."""

from __future__ import annotations

import re
from pathlib import Path

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import read_images, visible_lists

FOLDERS = "folders"  # in place of a folder of category lists: the top-level folders of the images


def category_name(path: Path) -> str:
    """Derive the category of a list: `test0_normal.txt` -> `normal`; for other names the stem."""
    return re.sub(r"^test\d+_", "", path.stem)


def read_categories(folder: PathLike, root: PathLike | None = None) -> dict[str, list[str]]:
    """Read {category: its images} from every `*.txt` of a folder, in the order of CULane's numbers.

    Raises UserError if there is none, or if two files have the same category.
    """

    def sort_key(path: Path) -> tuple[int, str]:
        number = re.match(r"test(\d+)_", path.name)
        return (int(number[1]) if number else 1 << 30, path.name)

    files = sorted(visible_lists(Path(folder)), key=sort_key)
    if not files:
        raise UserError(f"{folder}: no category lists; expected a folder with test0_normal.txt, test1_crowd.txt, ...")
    categories: dict[str, list[str]] = {}
    for path in files:
        name = category_name(path)
        if name in categories:
            raise UserError(f"{path}: a second list of the category {name}; keep one of them")
        categories[name] = list(read_images(path, root))
    return categories


def folder_categories(list_file: PathLike, root: PathLike | None = None) -> dict[str, list[str]]:
    """Group the images of a list as {top-level folder: its images}, in the order of the list; `.` for no folder."""
    categories: dict[str, list[str]] = {}
    for image in read_images(list_file, root):
        folder, slash, _ = image.partition("/")
        categories.setdefault(folder if slash else ".", []).append(image)
    return categories
