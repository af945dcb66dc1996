"""The fovea in LaneLM: batched equals alone, clicks are passed, without it nothing changes, files load either way."""

import numpy as np
import pytest
import torch

from clrernetlm.core.errors import UserError
from clrernetlm.core.lane_attributes import LANE_COLOURS, LANE_TYPES
from clrernetlm.models.lanelm.fovea.patches import FrameCrop
from clrernetlm.models.lanelm.fovea.reference import clicks_of_requests, row_weights
from clrernetlm.models.lanelm.fovea.refine import refine
from clrernetlm.models.lanelm.postprocess import answered_lane, lanes_from_answers
from clrernetlm.models.lanelm.requests import requests_from_clicks, requests_from_proposals
from clrernetlm.weights.build_models import build_lanelm, init_lanelm, load_lanelm_weights, save_lanelm
from tests.helpers.small_lanelm import config_of, images, random_lanelm_detector

FRAME = (256, 218)


def fovea_config(**network):
    config = config_of(fovea=True, fovea_dim=32, fovea_layers=1, **network)
    config.lanelm.decode.proposal_threshold = 0.0
    return config


@pytest.fixture(scope="module")
def model():
    model = random_lanelm_detector(fovea_config())
    with torch.no_grad():
        model.fovea.of_row.bias[2:] = 1.0
    return model


@pytest.fixture(scope="module")
def crops():
    rng = np.random.default_rng(0)
    view = fovea_config().model.viewport
    return [FrameCrop.of(rng.integers(0, 256, (FRAME[1], FRAME[0], 3), np.uint8), view) for _ in range(2)]


def requests_of(model, output, points):
    proposals = model.propose(output.predictions)
    clicks = torch.tensor(points, dtype=torch.float32).expand(2, -1, -1, -1)
    return requests_from_clicks(proposals, clicks, torch.ones(clicks.shape[:3]).bool(), model.lanelm.rows, 10.0)


def test_images_of_a_batch_get_the_lanes_that_they_get_alone(model, crops):
    output = model.run_detector(images())
    together = model.decode_unprompted(output, crops)
    assert together.visible.any()
    assert together.details is not None
    for i in range(2):
        levels = tuple(level[i : i + 1] for level in output.levels)
        requests = requests_from_proposals(model.propose(output.predictions))[i : i + 1]
        alone = model.answer(levels, requests, crops[i : i + 1])
        torch.testing.assert_close(alone.xs, together.xs[i : i + 1], atol=1e-2, rtol=0)
        torch.testing.assert_close(alone.score, together.score[i : i + 1], atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.details.ends, together.details.ends[i : i + 1], atol=1e-3, rtol=0)
        assert torch.equal(alone.details.type, together.details.type[i : i + 1])


@pytest.mark.parametrize("rounds", [1, 3])
def test_every_click_is_passed_whatever_the_networks_say(model, crops, rounds):
    model.config.lanelm.decode.fovea_rounds = rounds
    output = model.run_detector(images())
    points = [[[30.0, 60.0], [50.0, 30.0], [60.0, 20.0]], [[100.0, 50.0], [100.0, 50.0], [90.0, 8.0]]]
    requests = requests_of(model, output, points)
    answers = model.answer(output.levels, requests, crops, click_sigma=0.3)
    clicks = clicks_of_requests(requests, model.lanelm.spacing)
    at_clicks = (row_weights(clicks.row, answers.xs.shape[-1]) @ answers.xs[..., None]).squeeze(-1)
    assert ((at_clicks - clicks.x).abs() * clicks.exists).max() < 2 * 0.3
    rows = clicks.row[clicks.exists]
    ends = answers.details.ends[:, :, None].expand(*clicks.row.shape, 2)[clicks.exists]
    assert (ends[:, 0] <= rows + 1e-3).all()
    assert (ends[:, 1] >= rows - 1e-3).all()
    model.config.lanelm.decode.fovea_rounds = 1


def test_a_click_far_from_the_answer_lowers_the_score(model, crops):
    output = model.run_detector(images())
    base = model.answer_from_features(output.levels, requests_of(model, output, [[[60.0, 30.0]]]))
    base.xs[:], base.visible[:], base.score[:] = 60.0, True, 0.9
    scores = []
    for away in (0.0, 0.5, 10.0):
        requests = requests_of(model, output, [[[60.0 + away, 30.0]]])
        refined = refine(model.run_fovea, base, requests, crops, rounds=1, score_weight=0.0, click_sigma=0.3)
        scores.append(float(refined.score[0, 0]))
    assert scores[:2] == pytest.approx([0.9, 0.9], abs=1e-4)
    assert scores[2] < 0.3


def test_without_a_fovea_the_answers_are_those_from_the_features(model, crops):
    output = model.run_detector(images())
    requests = requests_from_proposals(model.propose(output.predictions))
    plain = random_lanelm_detector(config_of())
    plain.config.lanelm.decode.proposal_threshold = 0.0
    plain.detector.load_state_dict(model.detector.state_dict())
    plain.lanelm.load_state_dict(model.lanelm.state_dict())
    without, before = plain.answer(output.levels, requests), model.answer_from_features(output.levels, requests)
    assert torch.equal(without.xs, before.xs)
    assert without.details is None


def test_lanes_have_words_visible_points_positions_and_ends_between_rows(model, crops):
    output = model.run_detector(images())
    answers = model.decode_unprompted(output, crops)
    view = model.config.model.viewport
    [lanes, _] = lanes_from_answers(answers, model.config.lanelm.decode, view, [FRAME] * 2, 4, threshold=0.0)
    assert lanes
    assert {lane.type for lane in lanes} <= set(LANE_TYPES[:-1])
    assert {lane.colour for lane in lanes if lane.type != "edge"} <= set(LANE_COLOURS[:-1])
    assert {lane.colour for lane in lanes if lane.type == "edge"} <= {"unknown"}
    assert sorted({lane.position for lane in lanes}) == sorted(lane.position for lane in lanes)
    for lane in lanes:
        assert len(lane.visible) == len(lane.points)
        assert (np.diff(lane.points[:, 1]) < 0).all()
    top, bottom = answers.details.ends[0, 0].tolist()
    lane = answered_lane(answers, 0, 0, view, FRAME)
    rows = view.to_network(lane.points, FRAME)[:, 1] / model.lanelm.spacing
    assert rows[[-1, 0]].tolist() == pytest.approx([top, bottom], abs=1e-4)


def test_points_that_are_not_seen_at_the_lower_end_are_under_the_bonnet(model, crops):
    answers = model.decode_unprompted(model.run_detector(images()), crops)
    view, steps = model.config.model.viewport, answers.xs.shape[-1]
    answers.details.ends[0, 0] = torch.tensor([2.0, float(steps)])
    answers.details.seen[0, 0] = torch.tensor([row < steps - 3 and row != 4 for row in range(steps)])
    answers.details.type[0, 0], answers.details.colour[0, 0] = LANE_TYPES.index("dashed"), 1
    lane = answered_lane(answers, 0, 0, view, FRAME)
    assert (lane.type, lane.colour) == ("dashed", "yellow")
    assert [(part.by, part.last - part.first + 1) for part in lane.hidden] == [("bonnet", 4), ("unknown", 1)]
    assert len(lane.cut_at_bonnet()) == len(lane) - 4
    answers.details.type[0, 0], answers.details.seen[0, 0] = LANE_TYPES.index("edge"), False
    hidden = answered_lane(answers, 0, 0, view, FRAME)
    assert hidden.colour == "unknown"
    assert [part.by for part in hidden.hidden] == ["unknown"]
    assert hidden.cut_at_bonnet() is hidden


def test_a_lane_without_any_row_has_no_points(model, crops):
    output = model.run_detector(images())
    answers = model.decode_unprompted(output, crops)
    answers.details.ends[:] = torch.tensor([3.0, 3.0])
    assert len(answered_lane(answers, 0, 0, model.config.model.viewport, FRAME)) == 0


def test_a_file_with_a_fovea_loads_with_it_and_without_it(model, tmp_path):
    save_lanelm(model, tmp_path / "fovea.pth")
    again = init_lanelm(model.config, tmp_path / "fovea.pth")
    assert all(torch.equal(a, b) for a, b in zip(model.fovea.parameters(), again.fovea.parameters(), strict=True))
    without = init_lanelm(config_of(), tmp_path / "fovea.pth")
    assert without.fovea is None
    assert torch.equal(without.lanelm.head.proj_x.weight, model.lanelm.head.proj_x.weight)


def test_a_file_without_a_fovea_is_refused_where_one_is_needed(model, tmp_path):
    save_lanelm(build_lanelm(config_of()), tmp_path / "plain.pth")
    with pytest.raises(UserError, match="fovea"):
        init_lanelm(model.config, tmp_path / "plain.pth")
    grown = build_lanelm(model.config)
    load_lanelm_weights(grown, tmp_path / "plain.pth", add_fovea=True)


def test_no_proposal_gives_no_lane(model, crops):
    output = model.run_detector(images())
    proposals = model.propose(output.predictions, 2.0)
    answers = model.answer(output.levels, requests_from_proposals(proposals), crops)
    assert not answers.visible.any()
    assert lanes_from_answers(answers, model.config.lanelm.decode, model.config.model.viewport, [FRAME] * 2, 4) == [
        [],
        [],
    ]
