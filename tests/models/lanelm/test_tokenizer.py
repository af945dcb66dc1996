"""Lanes to tokens and back: errors are at most half a bin, and only rows of the lane have tokens."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import InterpolatedUnivariateSpline

from clrernetlm.core.errors import UserError
from clrernetlm.models.lanelm import LaneTokenizer, LaneTokenizerConfig

RNG = np.random.default_rng(0)
ROAD = np.array([[210.0, 318.5], [262.0, 240.0], [301.0, 171.0], [322.0, 120.0], [331.0, 83.0], [335.0, 61.5]])

configs = st.builds(
    LaneTokenizerConfig,
    img_w=st.integers(1, 2000),
    img_h=st.integers(1, 1200),
    num_steps=st.integers(2, 100),
    nbins_x=st.integers(2, 2000),
)


def road(rng: np.random.Generator, config: LaneTokenizerConfig, most: int = 12) -> np.ndarray:
    """Draw a lane of 0 to `most` points in random order around an image of this size."""
    points = rng.uniform(-0.2, 1.2, (rng.integers(0, most + 1), 2)) * (config.img_w, config.img_h)
    return points[np.argsort(-points[:, 1])] if rng.random() < 0.5 else points


def by_scipy(points: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return x on the rows between the points, by scipy's spline."""
    ys, first = np.unique(points[:, 1], return_index=True)
    if len(ys) < 2:
        return np.full(len(rows), np.nan)
    spline = InterpolatedUnivariateSpline(ys, points[first, 0], k=min(3, len(ys) - 1))
    return np.where((rows >= ys[0]) & (rows <= ys[-1]), spline(rows), np.nan)


@settings(max_examples=200, deadline=None)
@given(configs, st.integers(0, 2**32 - 1))
def test_round_trip_is_within_half_a_bin_on_every_row_in_the_image(config: LaneTokenizerConfig, seed: int) -> None:
    tokenizer = LaneTokenizer(config)
    points = road(np.random.default_rng(seed), config)
    xs = tokenizer.lane_rows([points])[0]
    x_tokens, y_tokens = tokenizer.encode_single_lane(points)
    half = config.img_w / config.nbins_x / 2 + 1e-9 * config.img_w
    near = (xs >= half) & (xs <= config.img_w - half)
    assert (x_tokens[near] > 0).all()
    assert not np.isnan(xs[x_tokens > 0]).any()
    decoded = tokenizer.decode_single_lane(x_tokens, y_tokens)
    rows = np.flatnonzero(x_tokens)
    np.testing.assert_array_equal(decoded[:, 1], config.img_h / config.num_steps * rows)
    assert (np.abs(decoded[:, 0] - xs[rows]) <= half).all()


@settings(max_examples=200, deadline=None)
@given(configs, st.integers(0, 2**32 - 1))
def test_tokens_stay_in_the_vocabulary_and_on_the_lanes_own_rows(config: LaneTokenizerConfig, seed: int) -> None:
    tokenizer = LaneTokenizer(config)
    points = road(np.random.default_rng(seed), config)
    x_tokens, y_tokens = tokenizer.encode_single_lane(points)
    assert x_tokens.dtype == y_tokens.dtype == np.int64
    assert x_tokens.shape == y_tokens.shape == (config.num_steps,)
    assert 0 <= x_tokens.min() <= x_tokens.max() < config.nbins_x
    shown = x_tokens > 0
    np.testing.assert_array_equal(y_tokens, np.where(shown, np.arange(config.num_steps), config.num_steps))
    if shown.any():
        rows = tokenizer.rows[shown]
        assert rows.min() >= points[:, 1].min() - 1e-6
        assert rows.max() <= points[:, 1].max() + 1e-6


@settings(max_examples=100, deadline=None)
@given(configs, st.integers(0, 2**32 - 1))
def test_batched_is_single(config: LaneTokenizerConfig, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokenizer = LaneTokenizer(config)
    lanes = [road(rng, config) for _ in range(rng.integers(0, 7))]
    x_tokens, y_tokens = tokenizer.encode_lanes(lanes)
    assert x_tokens.shape == y_tokens.shape == (len(lanes), config.num_steps)
    for lane, xs, ys in zip(lanes, x_tokens, y_tokens, strict=True):
        single = tokenizer.encode_single_lane(lane)
        np.testing.assert_array_equal(xs, single[0])
        np.testing.assert_array_equal(ys, single[1])


@pytest.mark.parametrize("count", [2, 3, 4, 5, 30])
def test_rows_equal_scipys_spline(count: int) -> None:
    tokenizer = LaneTokenizer()
    for _ in range(50):
        ys = np.sort(RNG.choice(320, count, replace=False))[::-1] + RNG.uniform(0, 0.5)
        points = np.stack([400 + np.cumsum(RNG.normal(0, 5, count)), ys], axis=1)
        np.testing.assert_allclose(tokenizer.lane_rows([points])[0], by_scipy(points, tokenizer.rows), atol=1e-6)


def test_rows_and_bins_are_those_of_the_paper() -> None:
    tokenizer = LaneTokenizer()
    np.testing.assert_array_equal(tokenizer.rows, 8.0 * np.arange(40))
    x_tokens, y_tokens = tokenizer.encode_single_lane([[100.0, 0.0], [256.0, 312.0]])
    np.testing.assert_array_equal(x_tokens, 100 + 4 * np.arange(40))
    np.testing.assert_array_equal(y_tokens, np.arange(40))


def test_lane_ends_on_a_row_are_kept_despite_rounding() -> None:
    tokenizer = LaneTokenizer()
    for off in (0, 5e-7, -5e-7):
        y_tokens = tokenizer.encode_single_lane([[100.0, 304.0 - off], [200.0, 80.0 + off]])[1]
        assert y_tokens[y_tokens < 40].tolist() == list(range(10, 39))
    shorter = tokenizer.encode_single_lane([[100.0, 303.9], [200.0, 80.1]])[1]
    assert shorter[shorter < 40].tolist() == list(range(11, 38))


def test_the_spline_is_not_extrapolated() -> None:
    x_tokens, y_tokens = LaneTokenizer().encode_single_lane(ROAD)
    assert np.flatnonzero(x_tokens).tolist() == list(range(8, 40))
    assert (y_tokens[:8] == 40).all()


def test_targets_may_continue_to_the_bottom_in_a_straight_line() -> None:
    tokenizer = LaneTokenizer()
    upper = ROAD[1:]  # lowest points (262, 240) and (301, 171)
    own, extended = (tokenizer.lane_rows([upper], extend_bottom=extend)[0] for extend in (False, True))
    below = tokenizer.rows > 240
    assert np.isnan(own[below]).all()
    np.testing.assert_array_equal(own[~below], extended[~below])
    np.testing.assert_allclose(extended[below], 262 + (262 - 301) / (240 - 171) * (tokenizer.rows[below] - 240))


def test_what_is_off_the_image_is_padding() -> None:
    tokenizer = LaneTokenizer()
    x_tokens, _ = tokenizer.encode_single_lane([[-100.0, 312.0], [900.0, 0.0]])
    xs = 900 - 1000 * tokenizer.rows / 312
    np.testing.assert_array_equal(x_tokens > 0, (xs >= 0.5) & (xs < 799.5))
    assert tokenizer.quantise([0.49, 0.51, 799.49, 799.51, np.nan, np.inf, -1e300, 1e300] + [1.0] * 32)[0][
        :8
    ].tolist() == [0, 1, 799, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "points",
    [
        np.empty((0, 2)),
        [],
        [[400.0, 160.0]],  # one point, exactly on a row
        [[100.0, 160.0], [700.0, 160.0]],  # horizontal
        [[100.0, 160.0], [700.0, 160.0 + 1e-9]],
        [[np.nan, 100.0], [400.0, 160.0], [400.0, np.inf]],
        [[100.0, 161.0], [700.0, 167.0]],  # between two rows
        [[-50.0, 320.0], [-10.0, 0.0]],
        [[400.0, -10.0], [400.0, -90.0]],
    ],
    ids=["empty", "no list", "one point", "horizontal", "nearly horizontal", "nan", "between rows", "left", "above"],
)
def test_a_lane_on_no_row_is_all_padding(points: object) -> None:
    x_tokens, y_tokens = LaneTokenizer().encode_single_lane(points)
    assert (x_tokens == 0).all()
    assert (y_tokens == 40).all()
    assert LaneTokenizer().decode_single_lane(x_tokens, y_tokens).shape == (0, 2)


def test_the_order_does_not_matter_and_the_first_point_of_a_row_counts() -> None:
    tokenizer = LaneTokenizer()
    expected = tokenizer.lane_rows([ROAD])
    np.testing.assert_array_equal(tokenizer.lane_rows([ROAD[::-1]]), expected)
    np.testing.assert_array_equal(tokenizer.lane_rows([ROAD[RNG.permutation(len(ROAD))]]), expected)
    twice = np.concatenate([ROAD, ROAD + np.array([50, 0])])
    np.testing.assert_array_equal(tokenizer.lane_rows([twice]), expected)
    top_first = np.insert(ROAD[::-1], 3, ROAD[::-1][2] + np.array([50, 0]), axis=0)
    np.testing.assert_array_equal(tokenizer.lane_rows([top_first]), expected)


def test_broken_points_are_dropped_and_do_not_touch_other_lanes() -> None:
    tokenizer = LaneTokenizer()
    broken = np.insert(ROAD, [0, 2, 6], [[np.nan, 400.0], [50.0, np.inf], [np.nan, np.nan]], axis=0)
    plain = tokenizer.lane_rows([ROAD])[0]
    mixed = tokenizer.lane_rows([ROAD[:1], broken, [], ROAD, ROAD[::-1]])
    for row in (1, 3, 4):
        np.testing.assert_array_equal(mixed[row], plain)
    assert np.isnan(mixed[[0, 2]]).all()


wild = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-400, 1200) | st.integers(-5, 5).map(float)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(wild, wild), max_size=12), st.booleans())
def test_random_points_give_tokens_that_decode(points: list[tuple[float, float]], extend: bool) -> None:
    tokenizer = LaneTokenizer()
    (x_tokens,), (y_tokens,) = tokenizer.encode_lanes([np.array(points).reshape(-1, 2)], extend_bottom=extend)
    assert len(tokenizer.decode_single_lane(x_tokens, y_tokens)) == (x_tokens > 0).sum() == (y_tokens < 40).sum()


def test_decoding_takes_lists_arrays_and_tensors_in_any_order_and_either_padding() -> None:
    tokenizer = LaneTokenizer()
    x_tokens, y_tokens = [300, 0, 310, 320, 5], [39, 38, -1, 40, 2]
    expected = [[300.0, 312.0], [5.0, 16.0]]
    assert tokenizer.decode_single_lane(x_tokens, y_tokens).tolist() == expected
    assert tokenizer.decode_single_lane(np.array(x_tokens, np.int32), np.array(y_tokens)).tolist() == expected
    decoded = tokenizer.decode_single_lane(torch.tensor(x_tokens), torch.tensor(y_tokens))
    assert decoded.tolist() == expected
    assert decoded.dtype == np.float64
    assert tokenizer.decode_single_lane([], []).shape == (0, 2)


def test_dequantise_keeps_the_shape() -> None:
    tokenizer = LaneTokenizer(LaneTokenizerConfig(nbins_x=200))
    xs = tokenizer.dequantise(torch.tensor([[0, 1], [2, 199]]))
    np.testing.assert_array_equal(xs, [[np.nan, 4.0], [8.0, 796.0]])
    tokens = RNG.integers(0, 200, (3, 5, 40))
    np.testing.assert_array_equal(tokenizer.quantise(tokenizer.dequantise(tokens))[0], tokens)


@pytest.mark.parametrize(
    ("x_tokens", "y_tokens", "message"),
    [
        ([800], [0], "x_tokens: 800 is not a token; this vocabulary has 0 to 799"),
        ([-1], [0], "x_tokens: -1 is not a token"),
        ([5], [41], "y_tokens: 41 is not a token; this vocabulary has -1 to 40"),
        ([5], [-2], "y_tokens: -2 is not a token"),
        ([5, 6], [1], r"shapes \(2,\) and \(1,\)"),
        ([[5]], [[1]], "one lane has two of shape"),
        ([5.5], [1], "x_tokens: float64 values; tokens are integers"),
    ],
)
def test_tokens_outside_the_vocabulary_are_named(x_tokens: object, y_tokens: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LaneTokenizer().decode_single_lane(x_tokens, y_tokens)


@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 2, 2)])
def test_points_of_another_shape_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"points have shape \(N, 2\)"):
        LaneTokenizer().encode_single_lane(np.zeros(shape))


@pytest.mark.parametrize(
    "wrong", [{"num_steps": 1}, {"nbins_x": 1}, {"img_w": 0}, {"img_h": -3}, {"pad_token_x": 7}, {"pad_token_y": 3}]
)
def test_a_vocabulary_that_cannot_work_is_an_error_naming_the_field(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=f"^{next(iter(wrong))}: "):
        LaneTokenizerConfig(**wrong)


def test_padding_of_y_is_the_row_after_the_last() -> None:
    assert LaneTokenizerConfig().padding_y == 40
    assert LaneTokenizerConfig(num_steps=56, pad_token_y=56).padding_y == 56
    assert replace(LaneTokenizerConfig(), num_steps=56).padding_y == 56


def test_importing_the_tokenizer_loads_no_heavy_library() -> None:
    code = "import sys; import clrernetlm.models.lanelm.tokenizer; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numba", "scipy", "cv2"} & set(done.stdout.split())
