"""The CULane metric during training: hit counts of one pass over the validation list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from clrernetlm.config import EvaluationConfig
from clrernetlm.evaluation import lane_ious
from clrernetlm.geometry import FrameSize
from clrernetlm.lane import Lane, read_lines
