"""Proposals: the detector's lanes on LaneLM's rows equal its own results."""

import numpy as np
import pytest
import torch

from clrernetlm.config import DecodeConfig
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.lanelm.proposals import propose

WIDTH, HEIGHT = 160, 64
VIEW = Viewport(WIDTH, HEIGHT, 0.0, 0.0, 1.0, 1.0)


def random_stage(batch: int, priors: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Bent lanes of all lengths and starts, some of them off the image."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g)

    u = torch.linspace(0, 1, 72)
    xs = uniform(batch, priors, 1) + (uniform(batch, priors, 1) - 0.5) * u + (uniform(batch, priors, 1) - 0.5) * u**2
    params = torch.stack([0.6 + 0.5 * uniform(batch, priors), uniform(batch, priors), uniform(batch, priors)], dim=-1)
    return {
        "cls_logits": 3 * torch.randn(batch, priors, 2, generator=g),
        "anchor_params": params,
        "lengths": uniform(batch, priors, 1),
        "xs": xs,
    }


@pytest.mark.parametrize("steps", [12, 24, 40])
def test_proposals_lie_on_the_detectors_own_lanes(steps: int) -> None:
    stage = random_stage(4, 30)
    found = propose(stage, steps, WIDTH, nms_threshold=10, threshold=0.3, max_proposals=8)
    decode = DecodeConfig(conf_threshold=0.3, nms_threshold=10)
    rows = np.arange(steps) * HEIGHT / steps
    compared = 0
    for image, lanes in enumerate(decode_lanes(stage, decode, VIEW, [(WIDTH, HEIGHT)] * 4, max_lanes=8)):
        scores = [lane.score for lane in lanes]
        for xs, shown, score in zip(found.xs[image], found.visible[image], found.scores[image], strict=True):
            if not shown.any():
                assert score == 0
                continue
            points = lanes[int(np.argmin(np.abs(np.array(scores) - float(score))))].points[::-1]
            covered = (rows >= points[0, 1] - 1e-6) & (rows <= points[-1, 1] + 1e-6)
            # A detector is trained on x / (W - 1) and its published results are x W: only the former is a pixel.
            x = np.interp(rows, points[:, 1], points[:, 0]) * (WIDTH - 1) / WIDTH
            np.testing.assert_allclose(xs.numpy()[shown], x[shown], atol=0.05)
            assert (shown.numpy() == (covered & (x >= 0) & (x < WIDTH))).all()
            compared += 1
    assert compared > 12


def test_images_do_not_mix() -> None:
    stage = random_stage(3, 30)
    together = propose(stage, 12, WIDTH, 10, 0.2, 6)
    alone = propose({name: value[1:2] for name, value in stage.items()}, 12, WIDTH, 10, 0.2, 6)
    assert alone.xs[0].equal(together.xs[1])
    assert alone.visible[0].equal(together.visible[1])


def test_proposals_are_sorted_and_deduplicated() -> None:
    stage = {name: value[:, [0, 0, 1]] for name, value in random_stage(1, 2, seed=3).items()}
    stage["cls_logits"] = torch.tensor([[[0.0, 1.0], [0.0, 3.0], [0.0, 2.0]]])
    stage["anchor_params"][..., 0], stage["lengths"][:] = 1.0, 0.9
    stage["xs"][:] = torch.tensor([0.2, 0.2, 0.8])[:, None]
    found = propose(stage, 12, WIDTH, 10, 0.1, 4)
    assert found.scores[0].tolist() == pytest.approx([0.9526, 0.8808, 0, 0], abs=1e-3)
    assert found.xs[0, :2, -1].tolist() == pytest.approx([0.2 * 159, 0.8 * 159])


def test_no_detections_and_values_that_are_not_finite_give_no_proposals() -> None:
    stage = random_stage(2, 5)
    empty = propose(stage, 12, WIDTH, 10, 1.1, 4)
    assert empty.xs.shape == (2, 4, 12)
    assert not empty.visible.any()
    assert not empty.scores.any()
    stage["xs"][0, :, 3] = torch.nan
    assert not propose(stage, 12, WIDTH, 10, 0.0, 4).visible[0].any()
