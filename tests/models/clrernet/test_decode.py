"""Decoding: the published keep lists and lanes; wild predictions give fewer lanes, never an error."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clrernetlm.config.schema import DecodeConfig
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import format_lines
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.clrernet.decode import decode_lanes, lane_nms, lanes_from_predictions, prediction_points
from tests.helpers.golden_weights import GOLDEN

B = np.load(GOLDEN / "b_forward_loss.npz")
E = np.load(GOLDEN / "e_nms_lanes.npz")
FIELDS = ("cls_logits", "anchor_params", "lengths", "xs")
FRAME = (1640, 590)
GET_LANES = ["b1", "b1_noext", "b1_top20", "b2", "b2_none", "real", "real_noext", "real_top10"]


def golden_stage(tag):
    prefix, source = ("gl_real_in", E) if tag.startswith("real") else (f"{tag[:2]}_stage2", B)
    return {name: torch.from_numpy(source[f"{prefix}_{name}"]) for name in FIELDS}


def golden_nms_input(name):
    boxes = E[f"nms_{name}_boxes"]
    return boxes[:, 5:], boxes[:, 2] * np.float32(71), boxes[:, 4], E[f"nms_{name}_scores"]


# `wrapstart` has starts below the bottom row: the published kernel then reads outside the lane's rows.
@pytest.mark.parametrize("name", [name for name in E["nms_names"] if name != "wrapstart"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_kept_lanes_are_the_published_ones(name, kind):
    threshold, top_k = E[f"nms_{name}_cfg"]
    kept = lane_nms(*map(kind, golden_nms_input(name)), threshold=threshold, top_k=int(top_k))
    assert kept.tolist() == E[f"nms_{name}_keep"][: int(E[f"nms_{name}_num"])].tolist()


def nms_by_loops(xs, start_rows, length_rows, scores, threshold, top_k):
    """Lane NMS in loops over lanes and rows."""
    first = [int(np.trunc(float(s) + 0.5)) for s in start_rows]
    last = [int(np.trunc(s + float(n) - 0.5 - (n < 1))) for s, n in zip(first, length_rows, strict=True)]
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if len(kept) == top_k:
            break
        suppressed = False
        for j in kept:
            begin, end = max(first[i], first[j], 0), min(last[i], last[j], xs.shape[1] - 1)
            total = np.float32(0)
            for row in range(begin, end + 1):
                total += abs(xs[i, row] - xs[j, row])
            suppressed |= end >= begin and total < np.float32(threshold) * np.float32(end - begin + 1)
        if not suppressed:
            kept.append(i)
    return kept


def test_starts_below_the_bottom_row_count_as_the_bottom_row():
    inputs = golden_nms_input("wrapstart")
    assert (inputs[1] < -5).any()
    assert lane_nms(*inputs, 50.0, 40).tolist() == nms_by_loops(*inputs, 50.0, 40)


@given(seed=st.integers(0, 2**32), n=st.integers(0, 30), top_k=st.integers(0, 31), threshold=st.floats(0, 200))
@settings(deadline=None, max_examples=60)
def test_nms_equals_a_loop_implementation(seed, n, top_k, threshold):
    generator = np.random.default_rng(seed)
    xs = (generator.random((n, 1)) * 400 + generator.normal(0, 60, (n, 72))).astype(np.float32)
    start, length = generator.uniform(-10, 80, (2, n)).astype(np.float32)
    scores = generator.integers(0, 5, n) / np.float32(5)  # many equal scores: these keep their order
    inputs = xs, start, length, scores
    assert lane_nms(*inputs, threshold, top_k).tolist() == nms_by_loops(*inputs, threshold, top_k)


def test_nms_accepts_nan_and_infinity():
    xs, start, length, scores = (array.copy() for array in golden_nms_input("basic40"))
    start[::3], length[1::4], xs[2::5] = np.nan, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        kept = lane_nms(xs, start, length, scores)
    assert len(set(kept.tolist())) == len(kept) <= 4


@pytest.mark.parametrize("extend", [0, 1])
def test_edge_lanes_are_the_published_ones(extend):
    found = lanes_from_predictions(E["ed_params"], E["ed_lengths"][:, 0], E["ed_xs"], extend_bottom=bool(extend))
    for i, lane in enumerate(found):
        if E["ed_lengths"][i] < 0 or not E[f"ed_ext{extend}_n{i}"]:  # published: a negative length wraps around
            assert lane is None, i
        else:
            np.testing.assert_allclose(lane, E[f"ed_ext{extend}_lane{i}"], rtol=0, atol=1e-12, err_msg=str(i))


@pytest.mark.parametrize("tag", GET_LANES)
def test_lanes_are_the_published_ones(tag):
    published = json.loads(str(E["gl_test_cfg"])) | json.loads(str(E[f"gl_{tag}_cfg"]))
    config = DecodeConfig(published["conf_threshold"], published["nms_thres"], published["extend_bottom"])
    stage = golden_stage(tag)
    images = decode_lanes(stage, config, Viewport(), [FRAME] * len(stage["xs"]), max_lanes=published["nms_topk"])
    for i, lanes in enumerate(images):
        scores = E[f"gl_{tag}_{i}_scores"]
        probability = stage["cls_logits"][i].softmax(-1)[:, 1].numpy()
        expected = []
        for n, score in enumerate(scores):
            anchor = np.abs(probability - score).argmin()
            if stage["lengths"][i, anchor] >= 0:  # published: a negative length wraps around
                expected.append((score, E[f"gl_{tag}_{i}_lane{n}"]))
        assert len(lanes) == len(expected)
        for lane, (score, points) in zip(lanes, expected, strict=True):
            assert lane.score == pytest.approx(score, abs=1e-6)
            np.testing.assert_allclose(lane.points[::-1] / FRAME, points, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tag", ["real", "b1"])
def test_prediction_text_is_the_published_one(tag):
    lanes = [Lane(E[f"gl_{tag}_0_lane{n}"][::-1] * FRAME) for n in range(int(E[f"gl_{tag}_0_n"]))]
    text = format_lines(prediction_points(lane, FRAME) for lane in lanes)
    assert text.splitlines() == str(E[f"str_{tag}"]).splitlines()


def test_a_batch_equals_its_images():
    stage = golden_stage("b2")
    together = decode_lanes(stage, DecodeConfig(0.3, 15), Viewport(), [FRAME, (1280, 720)], max_lanes=20)
    for i, frame in enumerate([FRAME, (1280, 720)]):
        image = {name: value[i : i + 1] for name, value in stage.items()}
        (alone,) = decode_lanes(image, DecodeConfig(0.3, 15), Viewport(), [frame], max_lanes=20)
        assert len(alone) == len(together[i]) > 3
        for one, other in zip(alone, together[i], strict=True):
            assert one.score == other.score
            np.testing.assert_array_equal(one.points, other.points)


@given(seed=st.integers(0, 2**32), images=st.integers(1, 5), n=st.integers(0, 40), top_k=st.integers(0, 6))
@settings(deadline=None, max_examples=40)
def test_nms_of_a_batch_equals_nms_of_its_images(seed, images, n, top_k):
    generator = np.random.default_rng(seed)
    xs = (generator.random((n, 1)) * 400 + generator.normal(0, 60, (n, 72))).astype(np.float32)
    start, length = generator.uniform(-10, 80, (2, n)).astype(np.float32)
    scores = generator.integers(0, 5, n) / np.float32(5)
    image = generator.integers(0, images, n)
    expected = []
    for i in range(images):
        members = np.flatnonzero(image == i)
        kept = lane_nms(xs[members], start[members], length[members], scores[members], 50.0, top_k)
        expected += members[kept].tolist()
    assert lane_nms(xs, start, length, scores, 50.0, top_k, image).tolist() == expected


def one_lane(x_bottom, x_top, start=0.0, length=72 / 71, logits=(-4.0, 4.0)):
    """Return a stage of one image with one straight prediction; start and length from the bottom, relative."""
    return {
        "cls_logits": torch.tensor([[logits]]),
        "anchor_params": torch.tensor([[[1 - start, x_bottom, 0.5]]]),
        "lengths": torch.tensor([[[length]]]),
        "xs": torch.linspace(x_bottom, x_top, 72).expand(1, 1, 72),
    }


def decode_one(stage, frame=FRAME, viewport=None, **settings):
    (lanes,) = decode_lanes(stage, DecodeConfig(**settings), viewport or Viewport(), [frame])
    return lanes


@pytest.mark.parametrize(("x_bottom", "x_top"), [(0.3, -0.4), (0.7, 1.5), (-0.5, 0.4), (1.5, 0.6), (0.2, 0.8)])
def test_lanes_may_leave_the_image(x_bottom, x_top):
    (lane,) = decode_one(one_lane(x_bottom, x_top))
    assert len(lane) == 72
    np.testing.assert_allclose(lane.points[[0, -1], 0], [x_bottom * 1640, x_top * 1640], rtol=1e-6)
    np.testing.assert_allclose(lane.points[[0, -1], 1], [590, 270], rtol=1e-6)
    assert (np.diff(lane.points[:, 1]) < 0).all()
    written = prediction_points(lane, FRAME)
    assert ((written[:, 0] >= 0) & (written[:, 0] < 1640)).all()
    assert len(written) > 20


def test_a_lane_leaving_at_the_top_ends_there():
    (lane,) = decode_one(one_lane(0.4, 0.5, start=0.5, length=3.0), extend_bottom=False)
    assert lane.points[-1, 1] == 270
    assert len(lane) == 36


def test_points_are_in_pixels_of_their_own_frame():
    viewport = Viewport(left=0.25, top=0.5, right=0.75, bottom=0.9)
    (lane,) = decode_one(one_lane(0.0, 1.0), frame=(1280, 720), viewport=viewport)
    np.testing.assert_allclose(lane.points[[0, -1]], [[320, 648], [960, 360]])


def test_extension_stops_where_the_lane_leaves():
    stage = one_lane(0.4, 0.4, start=40 / 71, length=0.2)
    stage["xs"] = stage["xs"].clone()
    stage["xs"][..., 20] = 1.2
    (lane,) = decode_one(stage)
    rows = 71 * (590 - lane.points[:, 1]) / 320
    np.testing.assert_allclose(rows, np.arange(21, 54), atol=1e-4)


@pytest.mark.parametrize(
    "stage",
    [
        one_lane(0.3, 0.4, logits=(4.0, -4.0)),  # not confident
        one_lane(0.3, 0.4, length=-0.3),
        one_lane(0.3, 0.4, length=0.01),  # one row
        one_lane(0.3, 0.4, logits=(torch.nan, torch.nan)),
        one_lane(0.3, torch.nan),
        one_lane(torch.inf, 0.4),
        one_lane(0.3, 0.4, length=torch.nan),
    ],
)
def test_degenerate_predictions_give_no_lane(stage):
    assert decode_one(stage) == []


@pytest.mark.parametrize("shape", [(0, 192), (2, 0), (2, 192)])
def test_no_detections_give_empty_results(shape):
    stage = dict(zip(FIELDS, (torch.zeros(*shape, n) for n in (2, 3, 1, 72)), strict=True))
    assert decode_lanes(stage, DecodeConfig(0.9), Viewport(), [FRAME] * shape[0]) == [[]] * shape[0]


@pytest.mark.parametrize("max_lanes", [0, 1, 4, 16])
def test_at_most_max_lanes_and_best_first(max_lanes):
    stage = {name: torch.cat([one_lane(0.04 * i, 0.04 * i)[name] for i in range(20)], dim=1) for name in FIELDS}
    stage["cls_logits"] = torch.stack([torch.zeros(20), torch.linspace(0.5, 5, 20)], -1)[None]
    (lanes,) = decode_lanes(stage, DecodeConfig(nms_threshold=20), Viewport(), [FRAME], max_lanes)
    scores = [lane.score for lane in lanes]
    assert len(lanes) == max_lanes
    assert scores == sorted(scores, reverse=True)


@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1.0, 1e3, 1e30]))
@settings(deadline=None, max_examples=40)
def test_random_predictions_never_fail(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    stage = {
        name: torch.randn(2, 50, n, generator=generator) * scale for name, n in zip(FIELDS, (2, 3, 1, 72), strict=True)
    }
    for lanes in decode_lanes(stage, DecodeConfig(), Viewport(), [FRAME, (64, 48)]):
        assert len(lanes) <= 4
        for lane in lanes:
            assert len(lane) > 1
            assert np.isfinite(lane.points).all()
            assert (np.diff(lane.points[:, 1]) < 0).all()
