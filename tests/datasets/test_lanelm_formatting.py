"""LaneLM's samples: tokens of the lanes inside the image, in a fixed number of slots."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.config.schema import Config
from clrernetlm.datasets import CulaneDataset, PackCLRNetInputs, PackLaneLMInputs, build_dataset, collate
from tests.helpers.small_culane import write_culane

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (320, 800, 3), dtype=np.uint8)
LANE = np.array([[200.0, 300.0], [260.0, 200.0], [300.0, 100.0], [310.0, 60.0]])  # ends above the bottom of the image


def sample(*lanes: np.ndarray) -> dict[str, object]:
    return {"image": IMAGE, "lanes": list(lanes), "metainfo": {"path": "/a.jpg"}}


def test_a_sample_becomes_image_tokens_and_positions() -> None:
    packed = PackLaneLMInputs()(sample(LANE, LANE + np.array([300, 0])), RNG)
    assert packed is not None
    assert packed["metainfo"] == {"path": "/a.jpg"}
    assert packed["inputs"].dtype == torch.float32
    np.testing.assert_allclose(packed["inputs"].numpy(), IMAGE.transpose(2, 0, 1) / 255, atol=1e-7)
    for name in ("lane_tokens_x", "lane_tokens_y", "lane_xs"):
        assert packed[name].shape == (4, 40)
    assert packed["lane_tokens_x"].dtype == packed["lane_tokens_y"].dtype == torch.int64
    assert packed["lane_xs"].dtype == torch.float32
    assert packed["lane_valid_mask"].tolist() == [True, True, False, False]
    assert (packed["lane_tokens_x"][2:] == 0).all()
    assert (packed["lane_tokens_y"][2:] == 40).all()
    assert packed["lane_xs"][2:].isnan().all()
    shown = packed["lane_xs"].isfinite()
    assert torch.equal(shown, packed["lane_tokens_x"] > 0)
    assert torch.equal(shown, packed["lane_tokens_y"] < 40)
    assert torch.equal(packed["lane_tokens_x"][shown], packed["lane_xs"][shown].round().long())


def test_lanes_reach_the_bottom_like_the_detectors_targets() -> None:
    xs = PackLaneLMInputs(num_points=20).lane_targets([LANE])[0]  # every 16 px
    assert np.flatnonzero(np.isfinite(xs)).tolist() == list(range(4, 20))  # from y = 64 to y = 304
    assert xs[19] == pytest.approx(200 - 4 * 60 / 100)
    # The detector's rows 320 - 40 i are LaneLM's in reverse, which lack the bottom edge itself.
    detector = PackCLRNetInputs(num_points=9, off_image="geometry").lane_targets([LANE])[0, 6:]
    ours = PackLaneLMInputs(num_points=8).lane_targets([LANE])[0]
    np.testing.assert_array_equal(ours[2:], detector[1:7][::-1])
    assert (detector[7:] == -1e5).all()
    assert np.isnan(ours[:2]).all()


def test_only_the_longest_part_inside_the_image_is_kept() -> None:
    ys = np.linspace(319, 1, 60)
    wave = np.stack([790 + 40 * np.cos(ys / 320 * 4 * np.pi) * (ys / 320), ys], axis=1)
    xs = PackLaneLMInputs().lane_targets([wave])[0]
    shown = np.flatnonzero(np.isfinite(xs))
    assert (np.diff(shown) == 1).all()
    inside = np.flatnonzero(PackLaneLMInputs().tokenizer.encode_lanes([wave], extend_bottom=True)[0][0])
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1)
    assert len(runs) > 1
    assert shown.tolist() == max(runs, key=len).tolist()


def test_of_equal_parts_the_lower_one_is_kept_and_one_row_is_no_lane() -> None:
    pack = PackLaneLMInputs(num_points=8)
    for xs, expected in (
        ([900, 400, 400, 900, 900, 400, 400, 900], [5, 6]),
        ([900, 400, 400, 900, 900, 900, 400, 900], [1, 2]),
        ([900, 400, 900, 900, 900, 900, 400, 900], []),
    ):
        lane = np.stack([np.array(xs, float), pack.tokenizer.rows], axis=1)
        assert np.flatnonzero(np.isfinite(pack.lane_targets([lane])[0])).tolist() == expected


def test_of_too_many_lanes_those_on_most_rows_are_kept_in_order() -> None:
    lanes = [np.array([[100.0 * i, 320.0], [100.0 * i, top]]) for i, top in enumerate([200, 10, 300, 20, 30, 40], 1)]
    xs = PackLaneLMInputs().lane_targets(lanes)
    np.testing.assert_array_equal(xs[:, -1], [200, 400, 500, 600])


def test_invisible_lanes_take_no_slot() -> None:
    outside = np.array([[900.0, 320.0], [950.0, 0.0]])
    xs = PackLaneLMInputs().lane_targets([outside, LANE[:1], np.empty((0, 2)), LANE])
    assert np.isfinite(xs).any(axis=1).tolist() == [True, False, False, False]


def test_a_sample_that_lost_its_lanes_is_dropped_but_an_empty_road_is_kept() -> None:
    assert PackLaneLMInputs()(sample(LANE + np.array([900, 0])), RNG) is None
    empty = PackLaneLMInputs()(sample(), RNG)
    assert empty is not None
    assert not empty["lane_valid_mask"].any()
    assert (empty["lane_tokens_y"] == 40).all()


def test_without_labels_there_is_only_the_image() -> None:
    packed = PackLaneLMInputs()({"image": IMAGE, "metainfo": {}}, RNG)
    assert packed is not None
    assert set(packed) == {"inputs", "metainfo"}


def test_as_bytes_gives_the_same_image_in_memory_of_its_own() -> None:
    image = IMAGE.copy()
    packed = PackLaneLMInputs(as_bytes=True)({"image": image, "metainfo": {}}, RNG)
    image[:] = 0
    assert packed is not None
    assert packed["inputs"].dtype == torch.uint8
    np.testing.assert_array_equal(packed["inputs"].numpy(), IMAGE.transpose(2, 0, 1))


wild = st.floats(allow_nan=True, allow_infinity=True, width=64) | st.floats(-400, 1200) | st.integers(-5, 5).map(float)
wild_lane = st.lists(st.tuples(wild, wild), max_size=12).map(lambda points: np.array(points, float).reshape(-1, 2))


@settings(max_examples=100, deadline=None)
@given(st.lists(wild_lane, max_size=8))
def test_random_labels_give_sequences_without_gaps(lanes: list[np.ndarray]) -> None:
    pack = PackLaneLMInputs()
    xs = pack.lane_targets(lanes)
    assert xs.shape == (4, 40)
    shown = np.isfinite(xs)
    np.testing.assert_array_equal(shown, pack.tokenizer.quantise(xs)[0] > 0)
    starts = np.diff(shown, prepend=False, axis=1) & shown
    assert (starts.sum(axis=1) <= 1).all()
    assert (shown.sum(axis=1) != 1).all()


def test_images_do_not_depend_on_the_packing(tmp_path: Path) -> None:
    write_culane(tmp_path, 3, size=(820, 295))
    config = Config()
    config.data.root = str(tmp_path)
    config.data.diff_file = None
    plain = build_dataset(config, "train")
    tokens = build_dataset(config, "train", pack=PackLaneLMInputs(as_bytes=True))
    assert isinstance(tokens, CulaneDataset)
    assert not tokens.has_masks
    for ours, theirs in ((tokens[i], plain[i]) for i in range(3)):
        assert torch.equal(ours["inputs"], theirs["inputs"])
        assert int(ours["lane_valid_mask"].sum()) == int(theirs["lanes"][:, 1].sum())
    batch = collate([pickle.loads(pickle.dumps(tokens))[i] for i in range(3)])
    assert batch["lane_tokens_x"].shape == (3, 4, 40)
    assert batch["lane_valid_mask"].dtype == torch.bool
