"""The CULane metric in both published readings, the evaluation of a data set, sweeps and reports."""

from clrernetlm.metrics.counts import EvaluationResult
from clrernetlm.metrics.culane_metric import lane_ious, match_lanes
from clrernetlm.metrics.evaluator import evaluate

__all__ = ["EvaluationResult", "evaluate", "lane_ious", "match_lanes"]
