"""Detects and draws the lanes of an image with NumPy, OpenCV and ONNX Runtime alone.

clrernetlm export roads_detector --to onnx --out lanes.onnx
python examples/onnx_lanes.py lanes.onnx road.jpg --out road_lanes.jpg

The file's metadata holds all other settings, such as the crop and the thresholds. Copy what you need.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Array = NDArray[Any]
COLOURS = ((60, 200, 60), (60, 60, 230), (230, 160, 50), (40, 200, 230), (200, 80, 200), (200, 200, 60))


class Detector:
    """An .onnx file of `clrernetlm export`: images in, lanes in pixels out."""

    def __init__(self, path: str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: one per core
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception:  # its errors share no class
            raise SystemExit(f"{path}: not an ONNX model, or cut short") from None
        text = self.session.get_modelmeta().custom_metadata_map.get("clrernetlm")
        if text is None:
            raise SystemExit(f"{path}: not exported by clrernetlm")
        metadata = json.loads(text)
        if metadata["part"] != "detector":
            raise SystemExit(f"{path}: holds {metadata['part']}, a part of LaneLM; use the detector's file")
        self.viewport, self.decode = metadata["viewport"], metadata["decode"]

    def __call__(self, image: Array, conf: float | None = None) -> list[tuple[float, Array]]:
        """Detect the lanes of an image (H, W, 3) uint8 BGR: (score, points (n, 2) x, y in its pixels), best lane first.

        Points begin at the bottom. `conf`: confidence threshold; None: the model's.
        """
        view, decode = self.viewport, self.decode
        height, width = image.shape[:2]
        left, top = min(round(view["left"] * width), width - 1), min(round(view["top"] * height), height - 1)
        right, bottom = max(round(view["right"] * width), left + 1), max(round(view["bottom"] * height), top + 1)
        size = (view["width"], view["height"])
        pixels = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_LINEAR)
        (lanes,) = self.session.run(["lanes"], {"images": pixels[None]})
        threshold = decode["conf_threshold"] if conf is None else conf
        kept = select_lanes(lanes[0], threshold, decode["nms_threshold"], decode["max_lanes"])
        found = [
            (float(lane[0]), lane_points(lane, (left, top, right, bottom), size, decode["extend_bottom"]))
            for lane in kept
        ]
        return [(score, lane) for score, lane in found if len(lane)]


def select_lanes(lanes: Array, conf_threshold: float, nms_threshold: float, max_lanes: int) -> Array:
    """Select lanes, best first, by confidence and NMS.

    `lanes` (N, 3 + R): score, first row, length in rows, x of every row in network pixels; row 0 is the bottom. Returns
    at most `max_lanes` of them. A lane suppresses a worse one if their mean distance over their common rows is below
    `nms_threshold` pixels.
    """
    lanes = lanes[(lanes[:, 0] >= np.float32(conf_threshold)) & np.isfinite(lanes).all(1)]
    lanes = lanes[np.argsort(-lanes[:, 0], kind="stable")]
    start, length, xs = np.trunc(lanes[:, 1] + 0.5), lanes[:, 2].astype(np.float64), lanes[:, 3:]
    count = xs.shape[1]
    first = np.clip(start, 0, count)
    last = np.clip(np.trunc(start + length - 0.5 - (length < 1)), -1, count - 1)
    rows, left = np.arange(count), np.arange(len(lanes))
    kept: list[int] = []
    while len(left) and len(kept) < max_lanes:
        best, left = left[0], left[1:]
        kept.append(best)
        low, high = np.maximum(first[left], first[best]), np.minimum(last[left], last[best])
        common = (rows >= low[:, None]) & (rows <= high[:, None])
        apart = np.cumsum(np.where(common, np.abs(xs[left] - xs[best]), np.float32(0)), axis=1, dtype=np.float32)[:, -1]
        left = left[(high < low) | (apart >= np.float32(nms_threshold) * (high - low + 1).astype(np.float32))]
    return lanes[np.array(kept, np.int64)]


def lane_points(
    lane: Array, crop: tuple[float, float, float, float], size: tuple[int, int], extend_bottom: bool = True
) -> Array:
    """Convert a lane of `select_lanes` to points (n, 2): x, y in pixels of the frame, bottom first.

    `crop`: (left, top, right, bottom) in pixels of the frame; `size`: (width, height) of the network input. Returns no
    points for a lane of fewer than two. With `extend_bottom` the lane continues below its start as long as it stays
    inside the image.
    """
    xs = lane[3:].astype(np.float64)
    count, width = len(xs), size[0]
    start = int(np.clip(np.rint(lane[1]), 0, count - 1))
    end = int(np.clip(start + np.rint(lane[2]), -1, count))
    if extend_bottom:
        while start > 0 and lane[2] >= 0 and 0 <= xs[start - 1] <= width - 1:
            start -= 1
    rows = np.arange(start, end) if lane[2] >= 0 else np.arange(0)
    left, top, right, bottom = crop
    found = np.stack(
        [left + xs[rows] / (width - 1) * (right - left), bottom - rows / (count - 1) * (bottom - top)], axis=1
    )
    return found if len(found) > 1 else found[:0]


def read_image(path: str) -> NDArray[np.uint8]:
    """Read (H, W, 3) uint8 BGR, turned as EXIF says; from bytes, because OpenCV opens only ASCII names on Windows."""
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):
        image = None
    if image is None:
        raise SystemExit(f"{path}: not an image")
    return image.astype(np.uint8, copy=False)


def write_image(path: str, image: NDArray[np.uint8]) -> None:
    """Write an image in the format of its suffix."""
    try:
        Path(path).write_bytes(cv2.imencode(Path(path).suffix, image)[1].tobytes())
    except (OSError, cv2.error):
        raise SystemExit(f"{path}: cannot be written; use a folder that exists, and .jpg or .png") from None


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the lanes of an image with ONNX Runtime.")
    parser.add_argument("model", help=".onnx file of `clrernetlm export`")
    parser.add_argument("image")
    parser.add_argument("--out", default="lanes.jpg", help="image to write")
    parser.add_argument("--conf", type=float, help="confidence threshold; default: the model's")
    parser.add_argument("--top", type=float, help="where the road begins, 0 to 1 of the height; default: the model's")
    options = parser.parse_args()
    if Path(options.out).exists():
        raise SystemExit(f"{options.out}: is there already; move it away, or name another --out")
    image = read_image(options.image)
    if not Path(options.model).is_file():
        raise SystemExit(f"{options.model}: no such file")
    detector = Detector(options.model)
    if options.top is not None:
        end = detector.viewport["bottom"]
        if not 0 <= options.top < end:
            raise SystemExit(f"--top: {options.top:g}; use 0 or more, below {end:g}, where the model's crop ends")
        detector.viewport["top"] = options.top
    for number, (score, lane) in enumerate(detector(image, options.conf)):
        print(f"{score:.2f}", " ".join(f"{x:.0f},{y:.0f}" for x, y in lane[::12]))
        line = lane.round().astype(np.int32)
        cv2.polylines(image, [line], False, COLOURS[number % len(COLOURS)], max(2, image.shape[1] // 250), cv2.LINE_AA)
    write_image(options.out, image)


if __name__ == "__main__":
    main()
