"""Calibration of scores, counted by hand and on scores that are probabilities."""

import numpy as np
import pytest

from clrernetlm.metrics.calibration import ScoreLog, reliability


def test_bins_counted_by_hand():
    figures = reliability([0.05, 0.15, 0.95, 1.0], [False, True, True, False], bins=10)
    first, second, last = figures["bins"][0], figures["bins"][1], figures["bins"][9]
    assert first == {"from": 0.0, "to": 0.1, "count": 1, "score": pytest.approx(0.05), "right": 0.0}
    assert second["right"] == 1.0
    assert last["count"] == 2, "a score of 1 belongs to the last bin"
    assert last["score"] == pytest.approx(0.975)
    assert last["right"] == 0.5
    assert figures["bins"][5] == {"from": 0.5, "to": 0.6, "count": 0, "score": None, "right": None}
    assert figures["expected_calibration_error"] == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)
    assert figures["lanes"] == 4


def test_true_probabilities_are_calibrated_and_overconfident_scores_are_not():
    rng = np.random.default_rng(0)
    scores = rng.random(20000)
    assert reliability(scores, rng.random(20000) < scores)["expected_calibration_error"] < 0.02
    assert reliability(np.full(100, 0.9), np.zeros(100))["expected_calibration_error"] == pytest.approx(0.9)


def test_an_empty_log_has_no_calibration():
    figures = reliability([], [])
    assert figures["expected_calibration_error"] is None
    assert sum(row["count"] for row in figures["bins"]) == 0


def test_the_log_yields_its_images_and_uses_the_nearest_label():
    images = [
        (np.array([0.9, 0.3]), np.array([[0.2, 0.7], [0.5, 0.1]])),
        (np.zeros(0), np.zeros((0, 2))),
        (np.array([0.8]), np.zeros((1, 0))),  # no labels: nothing can be right
    ]
    log = ScoreLog()
    passed = list(log.record(images))
    assert [len(scores) for scores, _ in passed] == [2, 0, 1]
    figures = log.reliability()
    assert figures["lanes"] == 3
    assert figures["iou_threshold"] == 0.5
    right = {row["from"]: row["right"] for row in figures["bins"] if row["count"]}
    assert right == {0.3: 0.0, 0.8: 0.0, 0.9: 1.0}, "an IoU of exactly 0.5 is no hit, as in the metric"
    assert ScoreLog().reliability()["lanes"] == 0
