"""Which images are evaluated, and in which categories they count."""

from __future__ import annotations

import os
import re
from pathlib import Path

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.core.image_list import read_images, visible_lists
from clrernetlm.core.lane import label_path

FOLDERS = "folders"  # in place of a folder of category lists: the top-level folders of the images


def category_name(path: Path) -> str:
    """`test0_normal.txt` -> `normal`; other names: the stem."""
    return re.sub(r"^test\d+_", "", path.stem)


def read_categories(folder: PathLike, root: PathLike | None = None) -> dict[str, list[str]]:
    """Category name -> its images, for every `*.txt` of a folder, ordered as CULane numbers them.

    Raises UserError when there is none, or when two files have the same name of category.
    """

    def order(path: Path) -> tuple[int, str]:
        number = re.match(r"test(\d+)_", path.name)
        return (int(number[1]) if number else 1 << 30, path.name)

    files = sorted(visible_lists(Path(folder)), key=order)
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
    """Top-level folder -> its images, in the order of the list; images outside of any folder are in `.`."""
    categories: dict[str, list[str]] = {}
    for image in read_images(list_file, root):
        folder, slash, _ = image.partition("/")
        categories.setdefault(folder if slash else ".", []).append(image)
    return categories


def lines_file(folder: PathLike, image: str) -> str:
    """Where the lanes of an image are: `folder/<image path without its extension>.lines.txt`."""
    return os.path.join(folder, label_path(image.lstrip("/")))
