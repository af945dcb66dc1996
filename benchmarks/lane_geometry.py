"""Compares the positions of lanes in images: generated labels, and real ones in TuSimple's format (JSON lines).

python benchmarks/lane_geometry.py FOLDER [--count 3000] [--randomization cameras course]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from timing import positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.arrays import Points
from clrernetlm.core.errors import UserError
from clrernetlm.synth import CATEGORIES, labelled_lanes, sample_scene
from clrernetlm.synth.randomization import Randomization, parse_randomization

Table = dict[str, list[float]]
LOWEST = 710 / 720  # lowest row of the real labels, as a share of the height
# Positions are relative to the vanishing point and to the lines, so that any two focal lengths can be compared.
MEANINGS = {
    "lanes": "labelled lines in an image",
    "vanishing row": "of the ego lines, share of the height",
    "vanishing column": "of the ego lines, share of the width",
    "lane width": "of the ego lane, in camera heights",
    "side lane width": "of the lanes beside it, in camera heights",
    "position in lane": "of the camera: -1 on the left line, 1 on the right",
    "width in image": "of the ego lane, share of the width, 0.3 heights below the vanishing point",
    "slope": "columns per row of all lines, absolute",
    "ends above": "top of the highest line under the vanishing point, share of the height",
    "ends apart": "between the highest and the lowest top, share of the height",
    "bend": "top of a line off its straight lower half, share of the width, absolute",
    "bend to side": "top of a line off its straight lower half, share of the width, signed",
    "reach down": "lowest point of the ego lines, share of the height",
}


def real_lanes(folder: Path) -> Iterable[tuple[list[Points], tuple[int, int]]]:
    """Read the lanes (N, 2), bottom first, and the size (width, height) of each labelled frame."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise UserError(f"{folder}: no TuSimple labels (*.json) in it; check the path")
    for file in files:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
                rows = np.array(entry["h_samples"], np.float64)
                found = [np.stack([np.array(x, np.float64), rows], 1)[::-1] for x in entry["lanes"]]
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{file}, line {number}: not a label of TuSimple") from None
            yield [points[points[:, 0] >= 0] for points in found], (1280, 720)


def generated_lanes(
    count: int, randomization: Randomization, highways: bool
) -> Iterable[tuple[list[Points], tuple[int, int]]]:
    """Generate `count` scenes and yield their lanes and size; `highways` keeps only highways in images of 16:9."""
    kinds = [kind for kind in CATEGORIES if kind != "cross"]
    chances = np.array([CATEGORIES[kind] for kind in kinds], np.float64)
    index = made = 0
    while made < count:
        rng = np.random.default_rng([77, index])
        index += 1
        kind = kinds[int(rng.choice(len(kinds), p=chances / chances.sum()))]
        scene = sample_scene(rng, kind, (1280, 720), 5 if highways else 4, randomization)
        size = (scene.camera.width, scene.camera.height)
        if highways and (scene.layout.road_type != "highway" or abs(size[0] / size[1] - 16 / 9) > 0.01):
            continue
        made += 1
        yield labelled_lanes(scene), size


def measure(frames: Iterable[tuple[list[Points], tuple[int, int]]]) -> Table:
    """Measure every statistic of `MEANINGS`: {name: its values over the frames}."""
    table: Table = defaultdict(list)
    for found, (width, height) in frames:
        found = [points for points in found if len(points) >= 6]
        table["lanes"].append(len(found))
        fits = [np.polyfit(points[:, 1], points[:, 0], 1) for points in (p[: len(p) // 2 + 1] for p in found)]
        for points, fit in zip(found, fits, strict=True):
            table["slope"].append(abs(float(fit[0])))
            bend = float(points[-1, 0] - np.polyval(fit, points[-1, 1])) / width
            table["bend"].append(abs(bend))
            table["bend to side"].append(bend)
        left = [k for k, fit in enumerate(fits) if fit[0] < 0]
        right = [k for k, fit in enumerate(fits) if fit[0] >= 0]
        if not left or not right:
            continue
        near_left, near_right = max(left, key=lambda k: fits[k][0]), min(right, key=lambda k: fits[k][0])
        (s0, x0), (s1, x1) = fits[near_left], fits[near_right]
        row = (x1 - x0) / (s0 - s1)
        tops = [points[-1, 1] for points in found]
        table["vanishing row"].append(row / height)
        table["vanishing column"].append((x0 + s0 * row) / width)
        table["lane width"].append(s1 - s0)
        table["position in lane"].append(-(s1 + s0) / (s1 - s0))
        table["width in image"].append((s1 - s0) * 0.3 * height / width)
        table["ends above"].append((min(tops) - row) / height)
        table["ends apart"].append((max(tops) - min(tops)) / height)
        lowest = max(found[k][0, 1] for k in (near_left, near_right))
        table["reach down"].append(min(lowest / height, LOWEST))
        for side, near in ((left, near_left), (right, near_right)):
            apart = sorted(abs(fits[k][0] - fits[near][0]) for k in side if k != near)
            table["side lane width"] += [float(apart[0])] if apart else []
    return table


def covered_share(one: list[float], other: list[float]) -> float:
    """Compute the share of the values of `one` between the 5 % and 95 % quantiles of `other`."""
    low, high = np.quantile(other, [0.05, 0.95])
    values = np.asarray(one)
    return float(((values >= low) & (values <= high)).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=positive, default=3000)
    parser.add_argument("--randomization", nargs="*", default=["cameras", "course"])
    arguments = parser.parse_args()
    randomization = parse_randomization(arguments.randomization)
    tables = {
        "real": measure(real_lanes(arguments.folder)),
        "highways": measure(generated_lanes(arguments.count, randomization, True)),
        "all": measure(generated_lanes(arguments.count, randomization, False)),
    }
    real = tables["real"]
    print(
        f"{len(real['lanes'])} real frames, {arguments.count} generated highways of 16:9, {arguments.count} of any kind"
    )
    print("quantiles 5 25 50 75 95 %; 'covered': share of the real ones between the 5 and 95 % quantiles of these")
    for name, meaning in MEANINGS.items():
        print(f"{name}: {meaning}")
        for source, table in tables.items():
            quantiles = "".join(f"{q:8.3f}" for q in np.quantile(table[name], [0.05, 0.25, 0.5, 0.75, 0.95]))
            note = "" if source == "real" else f"   covered {covered_share(real[name], table[name]):4.0%}"
            print(f"    {source:9s}{quantiles}{note}")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
