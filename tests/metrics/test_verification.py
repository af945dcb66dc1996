"""Shares of proposals that a score rejects, on cases counted by hand and against trying every threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clrernetlm.metrics.verification import rejection_curve, rejection_rates, true_proposals, verification


def test_true_proposals_are_matched_one_to_one():
    # Two proposals on one lane: the better one is true, the other false. The last one misses.
    ious = np.array([[0.6, 0.0], [0.8, 0.1], [0.0, 0.5]])
    assert true_proposals(ious).tolist() == [False, True, False]
    assert true_proposals(ious, threshold=0.4).tolist() == [False, True, True]
    assert true_proposals(np.zeros((2, 0))).tolist() == [False, False]
    assert true_proposals(np.zeros((0, 3))).tolist() == []


def test_shares_counted_by_hand():
    scores, true = [0.1, 0.2, 0.3, 0.4, 0.9], [False, True, False, True, True]
    assert rejection_rates(scores, true, 0.35) == {
        "threshold": 0.35,
        "false_rejected": 1.0,
        "true_lost": pytest.approx(1 / 3),
    }
    # A score that reaches the threshold passes.
    assert rejection_rates(scores, true, 0.3)["false_rejected"] == 0.5
    assert rejection_rates([0.5], [True], 0.9) == {"threshold": 0.9, "false_rejected": None, "true_lost": 1.0}
    figures = rejection_curve(scores, true)
    # No true one lost: a threshold up to 0.2 rejects only the first false one. One of three lost: both are rejected.
    assert figures["best"] == {"allowed": 0.03, "threshold": 0.2, "false_rejected": 0.5, "true_lost": 0.0}
    assert figures["curve"][33]["false_rejected"] == 0.5
    assert figures["curve"][34] == {"allowed": 0.34, "threshold": 0.4, "false_rejected": 1.0, "true_lost": 1 / 3}


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_the_curve_is_optimal_over_all_thresholds(proposals):
    scores = np.array([score / 6 for score, _ in proposals])
    true = np.array([flag for _, flag in proposals])
    figures = rejection_curve(scores, true)
    if true.all() or not true.any():
        assert figures == {"curve": [], "best": None}
        return
    tried = [rejection_rates(scores, true, threshold) for threshold in (*np.arange(8) / 6, 2.0)]
    for point in figures["curve"]:
        possible = [other["false_rejected"] for other in tried if other["true_lost"] <= point["allowed"] + 1e-9]
        assert point["false_rejected"] == max(possible)
        assert point == {"allowed": point["allowed"], **rejection_rates(scores, true, point["threshold"])}


def test_detector_and_lanelm_are_compared():
    figures = verification([0.5, 0.5, 0.2], [0.9, 0.1, 0.1], [True, False, False], 0.4, 0.5)
    assert (figures["true"], figures["false"]) == (1, 2)
    assert figures["detector"]["configured"]["false_rejected"] == 0.5
    assert figures["lanelm"]["configured"] == {"threshold": 0.5, "false_rejected": 1.0, "true_lost": 0.0}
    assert figures["lanelm"]["best"]["false_rejected"] == 1.0
    empty = verification([], [], [], 0.4, 0.5)
    assert empty["lanelm"] == {
        "configured": {"threshold": 0.5, "false_rejected": None, "true_lost": None},
        "curve": [],
        "best": None,
    }
