"""Compares lanes of clips of known truth: frame by frame, and with LaneLM verifying those of the frame before.

    python benchmarks/video_lanes.py DATA_ROOT [--list list/test.txt] [--model roads] [--clips 20] [--frames 24]

A clip is one image of the list seen by a camera that drifts, rolls and zooms smoothly, with changing brightness and the
noise of a sensor; its labels move with it, so that every lane has a true place and identity in every frame. Counted
over labelled lanes and frames: the share found (mean distance below 15 pixels at 1640), gaps (lost although found in
the frame before), changes of identity, false lanes per frame, and jitter: the mean change of a lane's distance from its
label from one frame to the next, in pixels at 1640. `untracked` has no identities.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from clicks import WIDTH, Array
from timing import positive

from clrernetlm import Lane, Predictor
from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.arrays import BgrImage
from clrernetlm.core.image_list import read_image_list
from clrernetlm.core.images import read_image
from clrernetlm.core.progress import progress_bar
from clrernetlm.datasets.culane import read_labels
from clrernetlm.inference.tracking import Tracks, update_tracks, visible_lanes

FOUND = 15.0  # pixels at 1640: mean distance from its label below which a lane is found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--list", default="list/test.txt", help="of images below the root (%(default)s)")
    parser.add_argument("--model", default=None, help="a model or checkpoint (that of the package)")
    parser.add_argument("--clips", type=positive, default=20)
    parser.add_argument("--frames", type=positive, default=24, help="of a clip (%(default)s)")
    parser.add_argument("--noise", type=float, default=12.0, help="of the sensor, grey levels (%(default)s)")
    options = parser.parse_args()
    is_file = options.model is not None and Path(options.model).is_file()
    predictor = Predictor(checkpoint=options.model) if is_file else Predictor(options.model)
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    images = read_image_list(options.root / options.list, root=options.root).images[: options.clips]
    for number, listed in enumerate(progress_bar(images, "Clips")):
        path = str(options.root / listed.decode().lstrip("/"))
        frames = moving_frames(read_image(path), options.frames, options.noise, np.random.default_rng(number))
        labels = read_labels(path)
        for way in ("untracked", "frame by frame", "lanes before"):
            follow(predictor, way, frames, labels, counts[way])
    print(f"{'':16}{'found':>9}{'gaps':>9}{'changes':>9}{'false':>9}{'jitter':>11}")
    for way, count in counts.items():
        seen, total = max(count["found"], 1), count["labels"]
        print(
            f"{way:16}{100 * count['found'] / total:>7.1f} %{100 * count['gaps'] / total:>7.1f} %"
            f"{100 * count['changes'] / seen:>7.1f} %{count['false'] / count['frames']:>9.2f}"
            f"{count['jitter'] / max(count['pairs'], 1):>8.2f} px"
        )


def moving_frames(image: BgrImage, count: int, noise: float, rng: np.random.Generator) -> list[tuple[BgrImage, Array]]:
    """Make the frames of a clip from one image: each with the (2, 3) matrix that moves the image's points to it."""
    height, width = image.shape[:2]
    phase, speed = rng.uniform(0, 2 * np.pi, 5), rng.uniform(0.2, 0.6, 5)
    frames: list[tuple[BgrImage, Array]] = []
    for time in np.arange(count) / 25:
        swing = np.sin(phase + 2 * np.pi * speed * time)
        turned = cv2.getRotationMatrix2D((width / 2, 0.6 * height), 1.2 * swing[0], 1.1 + 0.04 * swing[1])
        matrix = np.asarray(turned, np.float64)
        matrix[:, 2] += width * np.array([0.02 * swing[2], 0.008 * swing[3]])
        frame = cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        bright = frame * (1 + 0.15 * swing[4]) + rng.normal(0, noise, frame.shape)
        frames.append((bright.clip(0, 255).astype(np.uint8), matrix))
    return frames


def follow(
    predictor: Predictor,
    way: str,
    frames: Sequence[tuple[BgrImage, Array]],
    labels: Sequence[Array],
    count: dict[str, float],
) -> None:
    """Detect the lanes of a clip in one way, and add what is found to the counts."""
    tracks = Tracks()
    identity: dict[int, int] = {}
    before: dict[int, float] = {}
    height, width = frames[0][0].shape[:2]
    for image, matrix in frames:
        predictor.set_image(image)
        if way == "untracked":
            lanes = [(0, lane) for lane in predictor.lanes()]
        else:
            known = [track.detected for track in tracks.active if track.detected] if way == "lanes before" else []
            tracks = update_tracks(tracks, predictor.lanes(expected=known), (width, height))
            lanes = [(track.identity, lane) for track, lane in visible_lanes(tracks, (width, height))]
        used: set[int] = set()
        for label, points in enumerate(labels):
            moved = points @ matrix[:, :2].T + matrix[:, 2]
            away = [signed_distance(lane, moved, height) * WIDTH / width for _, lane in lanes]
            best = int(np.nanargmin(np.abs(away))) if np.isfinite(away).any() else -1
            count["labels"] += 1
            if best < 0 or abs(away[best]) >= FOUND or best in used:
                count["gaps"] += label in before
                before.pop(label, None)
                continue
            used.add(best)
            count["found"] += 1
            if label in before:
                count["jitter"] += abs(away[best] - before[label])
                count["pairs"] += 1
            count["changes"] += label in identity and identity[label] != lanes[best][0]
            identity[label], before[label] = lanes[best][0], away[best]
        count["false"] += len(lanes) - len(used)
        count["frames"] += 1


def signed_distance(lane: Lane, label: Array, height: int) -> float:
    """Return the mean distance of a lane from a label on the rows that both have; NaN for fewer than three rows."""
    inside = label[(label[:, 1] < height) & (label[:, 1] >= 0)]
    if len(inside) < 3 or len(lane) < 2:
        return np.nan
    gap = lane.x_at(inside[:, 1]) - inside[:, 0]
    return float(np.nanmean(gap)) if np.isfinite(gap).sum() >= 3 else np.nan


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
