"""Draws contact sheets: many labelled images in one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.core.arrays import BgrImage, ByteMask
from clrernetlm.core.drawing import PALETTE, draw_lanes
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, replacing
from clrernetlm.core.images import read_image
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attribute_files import read_labelled_lanes
from clrernetlm.core.lane_files import label_path, read_lines
from clrernetlm.core.overwrite_rules import check_output, read_beginning
from clrernetlm.datasets.masks import read_mask
from clrernetlm.models.clrernet.targets import IGNORED_LABEL

_MADE_BY = b"contact sheet of clrernetlm check-data: "
_COLUMNS = 4
_TILE = (480, 270)  # width, height in pixels; images keep their aspect within it
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def require_sheet(path: PathLike, root: Path, overwrite: bool = False) -> None:
    """Raise UserError unless the contact sheet of the data set `root` may be written to `path`.

    A sheet of the same data set is replaced, that of another one with `overwrite`, and any other file never.
    """
    same = _comment(root) in read_beginning(Path(path))
    check_output(path, "a contact sheet", _is_sheet, parameter="contact_sheet", overwrite=overwrite or same)


def _is_sheet(path: Path) -> bool:
    return _MADE_BY in read_beginning(path)


def _comment(root: Path) -> bytes:
    """Make the JPEG comment segment that names the data set of a sheet."""
    text = _MADE_BY + os.fsencode(root.resolve())
    return b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text


def write_contact_sheet(path: PathLike, images: Sequence[tuple[str, str | None]], root: Path = Path()) -> str:
    """Draw images, each with the lanes of its label file and its mask if there is one; returns `path`.

    Pixels of a mask are tinted in the colour of their lane's number, ignored ones in grey. For images or labels that
    cannot be read there is a dark tile with a message, for masks and `.lanes.json` files a note in the caption. Where a
    `.lanes.json` file says so, hidden points are dotted, and position, type and colour are written on the lanes.
    `root`, the data set, is stored in a comment of the file. Raises UserError if `path` cannot be written.
    """
    tiles = [_tile(image, mask) for image, mask in images]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    encoded, data = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert encoded
    content = data.tobytes()
    first_segment = 4 + int.from_bytes(content[4:6], "big")  # JFIF's, which has to be the first
    with replacing(path) as temporary:
        temporary.write_bytes(content[:first_segment] + _comment(root) + content[first_segment:])
    return str(path)


def _tile(path: str, mask_path: str | None) -> BgrImage:
    """Draw one image with its lanes and mask, fitted into a tile, with its name underneath."""
    width, height = _TILE
    tile = np.full((height, width, 3), 24, np.uint8)
    caption = os.sep.join(path.split(os.sep)[-2:])
    try:
        image = read_image(path)
        label = label_path(path)
        lanes = [Lane(points) for points in read_lines(label)] if os.path.isfile(label) else []
    except UserError:
        cv2.putText(tile, "cannot be read", (12, height // 2), _FONT, 0.8, (80, 80, 255), 2, cv2.LINE_AA)
    else:
        scale = min(width / image.shape[1], (height - 24) / image.shape[0])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        caption += f"  ({len(lanes)} lanes)"
        try:
            lanes = read_labelled_lanes(label) if lanes else []
        except UserError:
            caption += "  .lanes.json cannot be used"
        if mask_path is not None:
            try:
                small = _tinted(small, read_mask(mask_path, bool(lanes)))
            except UserError:
                caption += "  mask cannot be read"
        scaled = [replace(lane, points=lane.points * scale) for lane in lanes]
        small = draw_lanes(small, scaled, width=1 if mask_path else 2, attributes=True)
        tile[: small.shape[0], : small.shape[1]] = small
    cv2.putText(tile, caption[-60:], (6, height - 8), _FONT, 0.42, (220, 220, 220), 1, cv2.LINE_AA)
    return tile


def _tinted(image: BgrImage, mask: ByteMask) -> BgrImage:
    """Tint an image (h, w, 3) on the numbered pixels of its mask (H, W), of any size."""
    colours = np.full((256, 3), 128, np.uint8)
    colours[1:IGNORED_LABEL] = np.resize(np.array(PALETTE, np.uint8), (IGNORED_LABEL - 1, 3))
    numbers = cv2.resize(mask, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
    mixed = cv2.addWeighted(image, 0.4, colours[numbers], 0.6, 0)
    return np.where(numbers[..., None] > 0, mixed, image).astype(np.uint8, copy=False)
