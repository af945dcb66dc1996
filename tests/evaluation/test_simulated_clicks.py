"""Simulated clicks: their positions, their noise, and the seed."""

import numpy as np
import pytest

from clrernetlm.core.viewport import Viewport
from clrernetlm.evaluation.simulated_clicks import ClickSettings, label_clicks
from clrernetlm.models.lanelm.tokenizer import LaneTokenizer, LaneTokenizerConfig

VIEWPORT = Viewport(width=160, height=64, top=0.5)
FRAME = (820, 296)  # rows 148 to 296 are seen
TOKENIZER = LaneTokenizer(LaneTokenizerConfig(img_w=160, img_h=64, num_steps=16, nbins_x=160))
SPACING = 148 / 16  # frame pixels between rows
ROWS = 148 + SPACING * np.arange(16)


def straight(bottom: float, top: float, low: float = 296.0, high: float = 148.0) -> np.ndarray:
    """A lane from (bottom, low) up to (top, high)."""
    share = np.linspace(0, 1, 30)
    return np.stack([bottom + (top - bottom) * share, low + (high - low) * share], axis=1)


LABELS = [straight(100, 400), straight(700, 420)]


def clicks(number, labels=LABELS, image="/a/b.jpg", **settings):
    return label_clicks(labels, image, FRAME, number, ClickSettings(**settings), TOKENIZER, VIEWPORT)


def test_without_noise_clicks_are_on_the_lowest_rows_of_the_lane():
    points, there = clicks(4, noise=0)
    assert there.all()
    np.testing.assert_allclose(points[0, :, 1], ROWS[:-5:-1])
    for lane, found in zip(LABELS, points, strict=True):
        np.testing.assert_allclose(found[:, 0], np.interp(found[:, 1], lane[::-1, 1], lane[::-1, 0]), atol=1e-6)


def test_noise_is_uniform_and_clicks_stay_inside_the_crop():
    exact = clicks(4, noise=0)[0]
    missed = np.stack([clicks(4, image=f"{i}.jpg", noise=6)[0] for i in range(300)]) - exact
    assert np.abs(missed).max() <= 6
    assert np.abs(missed[..., 0]).max() > 5.9
    assert abs(missed[..., 0].mean()) < 0.3
    assert missed[..., 0].std() == pytest.approx(6 / np.sqrt(3), rel=0.05)
    edge = [straight(1, 1)]
    points, _ = clicks(4, edge, noise=50)
    assert (points >= (0, 148)).all()
    assert (points <= (820, 296)).all()


def test_clicks_depend_only_on_seed_and_path():
    points, _ = clicks(4)
    np.testing.assert_array_equal(clicks(4, image="a/b.jpg")[0], points)
    np.testing.assert_array_equal(clicks(2)[0], points[:, :2])  # more clicks add to fewer
    np.testing.assert_array_equal(clicks(4, LABELS[:1])[0], points[:1])
    assert not np.array_equal(clicks(4, seed=1)[0], points)
    assert not np.array_equal(clicks(4, image="/a/c.jpg")[0], points)


def test_anywhere_spreads_clicks_over_the_whole_lane():
    found = np.stack([clicks(4, image=f"{i}.jpg", noise=0, places="anywhere")[0][0, :, 1] for i in range(200)])
    assert (np.diff(found, axis=1) < 0).all(), "from the bottom up, never twice the same row"
    quarter = np.floor((296 - SPACING - found + 1e-6) / (4 * SPACING)).astype(int)
    assert (quarter == np.arange(4)).all(), "one click in each quarter"
    assert {*np.round(found.ravel(), 3)} == {*np.round(ROWS, 3)}, "every row is clicked some time"


@pytest.mark.parametrize("places", ["start", "anywhere"])
def test_short_hidden_and_absent_lanes(places):
    short = straight(300, 310, low=200, high=200 - 2.5 * SPACING)  # crosses two or three rows
    above = straight(300, 310, low=120, high=60)  # over the part that is seen
    beside = straight(-300, -50)
    leaving = straight(-200, 400)  # comes in from the left, above the bottom
    points, there = clicks(4, [short, above, beside, leaving], noise=0, places=places)
    rows = int(((ROWS <= 200) & (ROWS >= 200 - 2.5 * SPACING)).sum())
    assert there.sum(axis=1).tolist() == [rows, 0, 0, 4]
    assert (points[3, :, 0] >= 0).all()
    assert len(np.unique(points[0, there[0], 1])) == rows
    assert np.isfinite(points).all()
    none, nothing = clicks(3, [])
    assert none.shape == (0, 3, 2)
    assert nothing.shape == (0, 3)
