"""Contact sheet: many labelled images in one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from clrernetlm.data.culane import label_path
from clrernetlm.data.images import Image, read_image
from clrernetlm.drawing import draw_lanes
from clrernetlm.errors import UserError
from clrernetlm.files import PathLike, replacing
from clrernetlm.lane import read_lines

_COLUMNS = 4
_TILE = (480, 270)  # width, height in pixels; images keep their aspect within it
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def write_contact_sheet(path: PathLike, images: Sequence[str]) -> str:
    """Draw `images` with the lanes of their label files into one picture at `path`; returns the path.

    Images or labels that cannot be read appear as a dark tile that says so. Raises UserError when `path` cannot be
    written.
    """
    tiles = [_tile(image) for image in images]
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % _COLUMNS)
    rows = [np.hstack(tiles[start : start + _COLUMNS]) for start in range(0, len(tiles), _COLUMNS)]
    encoded, data = cv2.imencode(".jpg", np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert encoded
    with replacing(path) as temporary:
        Path(temporary).write_bytes(data.tobytes())
    return str(path)


def _tile(path: str) -> Image:
    """One image with its lanes, fitted into a tile, with its name underneath."""
    width, height = _TILE
    tile = np.full((height, width, 3), 24, np.uint8)
    caption = os.sep.join(path.split(os.sep)[-2:])
    try:
        image = read_image(path, cv2.IMREAD_COLOR)
        label = label_path(path)
        lanes = read_lines(label) if os.path.isfile(label) else []
    except UserError:
        cv2.putText(tile, "cannot be read", (12, height // 2), _FONT, 0.8, (80, 80, 255), 2, cv2.LINE_AA)
    else:
        scale = min(width / image.shape[1], (height - 24) / image.shape[0])
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = draw_lanes(small.astype(np.uint8, copy=False), [points * scale for points in lanes], width=2)
        tile[: small.shape[0], : small.shape[1]] = small
        caption += f"  ({len(lanes)} lanes)"
    cv2.putText(tile, caption[-60:], (6, height - 8), _FONT, 0.42, (220, 220, 220), 1, cv2.LINE_AA)
    return tile
