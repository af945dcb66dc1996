"""Lanes that are expected in an image: LaneLM verifies those that the detector does not find, and no others."""

import numpy as np
import pytest
import torch

from clrernetlm import Lane, Predictor
from clrernetlm.core.images import read_image
from clrernetlm.core.viewport import Viewport
from clrernetlm.inference.expected_lanes import proposals_of_lanes
from clrernetlm.models.lanelm.proposals import Proposals, add_missing
from tests.helpers.drawn_roads import write_drawn_roads

VIEW, FRAME, STEPS = Viewport(width=512, height=192, top=0.4), (1280, 720), 32


def straight(x_bottom, x_top):
    y = np.linspace(719, 300, 30)
    return Lane(np.stack([x_bottom + (x_top - x_bottom) * (719 - y) / 419, y], -1))


def proposals(*xs, score=0.5):
    lanes = torch.tensor(xs, dtype=torch.float32)[None, :, None].expand(1, len(xs), STEPS).clone()
    return Proposals(lanes, torch.ones_like(lanes).bool(), torch.full((1, len(xs)), score))


def test_lanes_become_proposals_of_unknown_score_on_the_rows_of_the_network():
    found = proposals_of_lanes([straight(300, 600), Lane(np.zeros((0, 2)))], VIEW, FRAME, STEPS)
    assert found.xs.shape == (1, 2, STEPS)
    assert found.scores.isnan().all()
    assert not found.visible[0, 1].any()
    rows = np.arange(STEPS) * VIEW.height / STEPS
    y = VIEW.to_frame(np.stack([rows, rows], -1), FRAME)[:, 1]
    expected = (300 + 300 * (719 - y) / 419) * 512 / 1280
    visible = found.visible[0, 0].numpy()
    assert visible[2:].all()
    np.testing.assert_allclose(found.xs[0, 0].numpy()[visible], expected[visible], atol=1e-3)


def test_only_expected_lanes_far_from_all_proposals_are_added():
    joined = add_missing(proposals(100.0, 300.0), proposals(108.0, 200.0), 16.0)
    assert joined.visible[0].any(-1).tolist() == [True, True, False, True]
    assert joined.xs[0, :, 0].tolist() == [100.0, 300.0, 108.0, 200.0]


def test_an_empty_slot_is_near_nothing():
    nothing = proposals(100.0)
    nothing.visible[:] = False
    assert add_missing(nothing, proposals(100.0), 16.0).visible[0].any(-1).tolist() == [False, True]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    root = write_drawn_roads(tmp_path_factory.mktemp("roads"), 1)
    made = Predictor()
    made.set_image(read_image(str(next(root.rglob("*.jpg")))))
    return made


def test_lanes_that_the_detector_finds_again_change_nothing(predictor):
    found = predictor.lanes(conf=0.0)
    again = predictor.lanes(conf=0.0, expected=found)
    assert [lane.score for lane in again] == [lane.score for lane in found]
    for one, two in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.points, two.points)


def test_a_detector_ignores_expected_lanes():
    detector = Predictor("roads_detector")
    detector.set_image(np.zeros((720, 1280, 3), np.uint8))
    with_expected, without = detector.lanes(0.0, [straight(300, 600)]), detector.lanes(0.0)
    assert [lane.score for lane in with_expected] == [lane.score for lane in without]
