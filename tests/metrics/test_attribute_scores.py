"""Types, colours, positions and visibility of predicted lanes against those of the labels that they match."""

import json

import numpy as np
import pytest

from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_attributes import HIDDEN_CODES
from clrernetlm.metrics.attribute_scores import AttributeCounts, count_attributes, names_in_order

ROWS = np.arange(100.0, 0, -10)  # ten points, from the bottom


def lane(*words, hidden=None, rows=ROWS):
    """Return a lane with type, colour and position, of which the points `hidden` are hidden."""
    codes = None if hidden is None else np.where(np.isin(np.arange(len(rows)), hidden), HIDDEN_CODES["vehicle"], 0)
    return Lane(np.stack([np.full(len(rows), 50.0), rows], axis=1), 0.9, *words, hidden_by=codes)


def scores(predictions, labels, ious):
    return count_attributes(predictions, labels, np.array(ious, float).reshape(len(predictions), len(labels))).to_dict()


def test_only_matched_lanes_and_known_labels_count():
    predictions = [lane("solid", "white", -1), lane("dashed", "yellow", 1), lane("dots", "other", 2)]
    labels = [lane("solid", "yellow", -1), lane("unknown", "unknown"), lane("dashed", "white", 2)]
    found = scores(predictions, labels, [[0.9, 0.1, 0], [0, 0.8, 0], [0, 0, 0.5]])
    assert found["lanes"] == 2, "the third pair has no IoU above 0.5"
    assert found["type"] == {"lanes": 1, "right": 1.0, "confusion": {"solid": {"solid": 1}}}
    assert found["colour"] == {"lanes": 1, "right": 0.0, "confusion": {"yellow": {"white": 1}}}
    assert found["position"] == {"lanes": 1, "right": 1.0}
    json.dumps(found, allow_nan=False)


def test_a_prediction_without_a_type_is_wrong_and_stands_in_the_last_column():
    found = scores([lane()], [lane("solid", "white", 1)], [0.9])
    assert found["type"] == {"lanes": 1, "right": 0.0, "confusion": {"solid": {"unknown": 1}}}
    assert found["position"]["right"] == 0.0
    confusion = {"dots": {"unknown": 1, "solid": 2}, "dashed": {"dashed": 1}}
    order = ("solid", "dashed", "dots", "edge", "unknown")
    assert names_in_order(confusion, order) == (["dashed", "dots"], ["solid", "dashed", "dots", "unknown"])


def test_hidden_points_are_compared_on_common_rows():
    found = scores([lane(hidden=[0, 1, 2])], [lane(hidden=[1, 2, 3, 9])], [0.9])["hidden"]
    assert found == {"points": 10, "hidden": 4, "precision": pytest.approx(2 / 3), "recall": 0.5, "iou": 0.4}
    short = lane(hidden=[0], rows=ROWS[2:8] + 1.0)  # on the rows 81 to 31, of which the nearest labelled is 80 to 40
    found = scores([short], [lane(hidden=[2, 9])], [0.9])["hidden"]
    assert (found["points"], found["hidden"], found["iou"]) == (5, 1, 1.0)
    unknown = scores([lane()], [lane(hidden=[1])], [0.9])["hidden"]
    assert unknown == {"points": 0, "hidden": 0, "precision": None, "recall": None, "iou": None}


def test_counts_of_images_add_up_and_no_lane_has_no_share():
    one = count_attributes([lane("solid", "white", 1)], [lane("solid", "white", 1, hidden=[0])], np.array([[0.9]]))
    other = count_attributes([lane("dots", "white", 1)], [lane("solid", "white", 2, hidden=[0])], np.array([[0.9]]))
    total = (AttributeCounts() + one + other).to_dict()
    assert total["lanes"] == 2
    assert total["type"]["confusion"] == {"solid": {"solid": 1, "dots": 1}}
    assert (total["colour"]["right"], total["position"]["right"]) == (1.0, 0.5)
    empty = scores([], [lane("solid")], np.zeros((0, 1)))
    assert (empty["lanes"], empty["type"]["right"], empty["hidden"]["iou"]) == (0, None, None)
    assert AttributeCounts().to_dict()["lanes"] == 0, "counting changes no other counts"
