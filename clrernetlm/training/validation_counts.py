"""Counts hits of the CULane metric in a pass over the validation list, and adds them up over processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clrernetlm.config import Config, EvaluationConfig
from clrernetlm.core.errors import UserError
from clrernetlm.core.image_headers import image_size
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import label_path, read_lines
from clrernetlm.core.viewport import FrameSize
from clrernetlm.metrics import match_lanes
from clrernetlm.metrics.f1_counts import MF1_THRESHOLDS, Tally
from clrernetlm.metrics.frame_scale import frame_ious, require_frame_fits
from clrernetlm.models.clrernet.decode import prediction_points


def require_fitting_validation(config: Config) -> None:
    """Raise UserError when the first validation image is larger than the canvas of the metric.

    For the start of a training; the others are checked when they are validated.
    """
    root = Path(config.data.root)
    frame = None
    with suppress(UserError):  # errors of reading are reported when the image is used
        image = root / next(read_images(root / config.data.val_list, root), "")
        frame = image_size(image)
    if frame is not None:
        require_frame_fits(config.evaluation.image_size, image, frame)


class ValidationTally:
    """Counts hits, predictions and labels image by image."""

    def __init__(self, settings: EvaluationConfig) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Reset all counts."""
        self.tally = Tally(MF1_THRESHOLDS)

    def add(self, lanes: Sequence[Lane], image: Path, frame: FrameSize) -> None:
        """Compare predictions with the labels beside `image`; raises UserError when those cannot be read."""
        settings = self.settings
        require_frame_fits(settings.image_size, image, frame)
        labels = [points for points in read_lines(label_path(str(image))) if len(points) > 1]
        found = [points for points in (prediction_points(lane, frame) for lane in lanes) if len(points) > 1]
        ious = frame_ious(settings, found, labels, frame)
        self.tally.count(ious[match_lanes(ious, settings.implementation)], len(found), len(labels))

    def scores(self, add_up: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Compute F1@50, F1@75, mF1, precision and recall over all processes; `add_up` sums a tensor over them."""
        tally = self.tally
        counts = add_up(torch.tensor([*tally.hits, tally.predictions, tally.labels])).tolist()
        total = Tally(MF1_THRESHOLDS, np.array(counts[:-2]), predictions=counts[-2], labels=counts[-1])
        at_50 = total.at(0.5)
        return {
            "F1@50": at_50["f1"],
            "F1@75": total.at(0.75)["f1"],
            "mF1": total.mean_f1(),
            "precision@50": at_50["precision"],
            "recall@50": at_50["recall"],
        }
