"""Compares tokenising lanes with fitting a spline per lane: `python benchmarks/lane_tokens.py`.

`spline_per_lane` is the prototype's method: clean, sort and fit every lane with scipy. Both encode the same 1,000 lanes
in turns; medians are compared, and the tokens must be equal.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import InterpolatedUnivariateSpline
from timing import machine, medians_in_turns, positive

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.core.arrays import Float64Array
from clrernetlm.models.lanelm import LaneTokenizer

Tokens = NDArray[np.int64]


def spline_per_lane(lanes: list[Float64Array], tokenizer: LaneTokenizer) -> tuple[Tokens, Tokens]:
    """Encode L lanes (N, 2) as x tokens and y tokens (L, T), with one scipy spline per lane."""
    config, rows = tokenizer.config, tokenizer.rows
    x_tokens = np.zeros((len(lanes), config.num_steps), np.int64)
    y_tokens = np.full_like(x_tokens, config.num_steps)
    for lane, x_row, y_row in zip(lanes, x_tokens, y_tokens, strict=True):
        ys, first = np.unique(lane[:, 1], return_index=True)
        spline = InterpolatedUnivariateSpline(ys, lane[first, 0], k=min(3, len(ys) - 1))
        nearest = np.rint(spline(rows) * config.nbins_x / config.img_w)
        visible = (rows >= ys[0]) & (rows <= ys[-1]) & (nearest >= 1) & (nearest < config.nbins_x)
        x_row[visible] = nearest[visible]
        y_row[visible] = np.flatnonzero(visible)
    return x_tokens, y_tokens


def random_lanes(count: int) -> list[Float64Array]:
    """Draw random walks of 10 to 39 points (N, 2) in 800x320, bottom first."""
    rng = np.random.default_rng(0)
    lanes = []
    for points in rng.integers(10, 40, count):
        ys = np.sort(rng.uniform(0, 320, points))[::-1]
        lanes.append(np.stack([400 + np.cumsum(rng.normal(0, 6, points)), ys], axis=1))
    return lanes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lanes", type=positive, default=1000)
    parser.add_argument("--repeats", type=positive, default=15)
    options = parser.parse_args()
    tokenizer, lanes = LaneTokenizer(), random_lanes(options.lanes)
    for found, expected in zip(tokenizer.encode_lanes(lanes), spline_per_lane(lanes, tokenizer), strict=True):
        np.testing.assert_array_equal(found, expected)
    runs = [partial(tokenizer.encode_lanes, lanes), partial(spline_per_lane, lanes, tokenizer)]
    ours, theirs = (1e3 * seconds for seconds in medians_in_turns(runs, options.repeats))
    print(f"{machine()}, one core, {options.lanes} lanes")
    print(f"ours {ours:.2f} ms, spline per lane {theirs:.2f} ms: {theirs / ours:.0f} times as fast")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
