"""Computes the CULane metric in both published implementations, for data sets, sweeps and calibration."""

from clrernetlm.metrics.culane_metric import lane_ious, match_lanes
from clrernetlm.metrics.evaluator import evaluate
from clrernetlm.metrics.f1_counts import EvaluationResult

__all__ = ["EvaluationResult", "evaluate", "lane_ious", "match_lanes"]
