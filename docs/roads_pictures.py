"""Draws the images of docs/REAL_ROADS.md: `python docs/roads_pictures.py ROADS [PHOTOS LIST]`.

ROADS is a folder of `clrernetlm synth --randomization all`; its first images are shown with the lanes that the shipped
detector finds. PHOTOS and LIST name labelled photographs: of those only the lanes are drawn that were found, blue where
one agrees with a label (IoU above .5), red where none does; no photograph and no label is shown.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from clrernetlm import Predictor
from clrernetlm.core.drawing import draw_lanes
from clrernetlm.core.image_list import read_images
from clrernetlm.core.images import read_image
from clrernetlm.core.lane_files import read_lines
from clrernetlm.metrics import lane_ious, match_lanes
from clrernetlm.models.clrernet.decode import prediction_points

FOLDER = Path(__file__).parent / "images"
COLUMNS, CELL = 4, (410, 231)  # pictures side by side; width, height of each
BLUE, RED = (190, 120, 30), (60, 60, 220)
METRIC_WIDTH = 1640


def sheet(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Equal pictures (H, W, 3) in rows of `columns`, white where one is missing."""
    blank = np.full_like(pictures[0], 255)
    pictures = pictures + [blank] * (-len(pictures) % columns)
    return np.vstack([np.hstack(pictures[i : i + columns]) for i in range(0, len(pictures), columns)])


def fitted(image: np.ndarray) -> np.ndarray:
    """An image in the middle of a cell, its shape kept."""
    scale = min(CELL[0] / image.shape[1], CELL[1] / image.shape[0])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    cell = np.full((CELL[1], CELL[0], 3), 255, np.uint8)
    left, top = (CELL[0] - size[0]) // 2, (CELL[1] - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cell


def detected(predictor: Predictor, path: Path) -> np.ndarray:
    """The image with its lanes."""
    image = read_image(str(path))
    predictor.set_image(image)
    return fitted(draw_lanes(image, predictor.lanes()))


def drawing(predictor: Predictor, path: Path) -> np.ndarray:
    """The lanes found in a photograph, without it."""
    image = read_image(str(path))
    frame = (image.shape[1], image.shape[0])
    scale = METRIC_WIDTH / frame[0]
    predictor.set_image(image)
    found = [prediction_points(lane, frame) * scale for lane in predictor.lanes()]
    labels = [points * scale for points in read_lines(path.with_suffix(".lines.txt")) if len(points) > 1]
    ious = lane_ious(found, labels, image_size=(METRIC_WIDTH, round(frame[1] * scale)))
    hits = {int(row) for row, column in zip(*match_lanes(ious), strict=True) if ious[row, column] > 0.5}
    canvas = np.full((round(frame[1] * scale), METRIC_WIDTH, 3), 245, np.uint8)
    for number, points in enumerate(found):
        colour = BLUE if number in hits else RED
        cv2.polylines(canvas, [points.round().astype(np.int32)], False, colour, 14, cv2.LINE_AA)
    cv2.rectangle(canvas, (0, 0), (canvas.shape[1] - 1, canvas.shape[0] - 1), (200, 200, 200), 8)
    return fitted(canvas)


def main() -> None:
    roads, *photos = sys.argv[1:]
    predictor = Predictor("roads_detector")
    images = sorted(Path(roads).glob("driver_01/*/*.jpg"))[: COLUMNS * 5]
    roads_sheet = sheet([detected(predictor, path) for path in images], COLUMNS)
    encoded = cv2.imencode(".jpg", roads_sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])[1]
    (FOLDER / "generated_roads.jpg").write_bytes(encoded.tobytes())
    if photos:
        root = Path(photos[0])
        paths = [root / name.lstrip("/") for name in read_images(root / photos[1])]
        drawn = sheet([drawing(predictor, path)[::2, ::2] for path in paths], 7)
        (FOLDER / "photo_lanes.png").write_bytes(cv2.imencode(".png", drawn)[1].tobytes())


if __name__ == "__main__":
    main()
