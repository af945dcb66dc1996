"""Small LaneLM networks for tests (128x64 pixels, 12 rows, width 32), and requests for them."""

from __future__ import annotations

import torch
from torch import Tensor

from clrernetlm.config import LaneLMNetworkConfig
from clrernetlm.models.lanelm.generate import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.requests import Requests, extrapolate_rows

SIZE = (128, 64)  # width, height
STEPS = 12
CHANNELS = 16


def small_network(**changes: object) -> LaneLMNetworkConfig:
    settings: dict[str, object] = {
        "num_steps": STEPS,
        "nbins_x": 64,
        "embed_dim": 32,
        "num_heads": 4,
        "ffn_dim": 64,
        "strip_points": 5,
        "strip_spacing": 4 / 128,
        "offset_bins": 21,
        "offset_range": 20 / 128,
    }
    return LaneLMNetworkConfig(**(settings | changes))  # type: ignore[arg-type]


def small_lanelm(seed: int = 0, **changes: object) -> LaneLM:
    """Return a model of random weights; those of the heads are large, so that lanes of every length are decoded."""
    torch.manual_seed(seed)
    model = LaneLM(small_network(**changes), CHANNELS, SIZE).eval()
    with torch.no_grad():
        for linear in (model.head.proj_x, model.head.proj_y, model.proj_offset):
            linear.weight.mul_(4)
        model.head.proj_y.bias[-1] -= 4  # in half of the cases the lane ends before the last row
    return model


def random_levels(batch: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Draw pyramid levels of strides 8, 16 and 32."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        5 * torch.randn(batch, CHANNELS, SIZE[1] // stride, SIZE[0] // stride, generator=generator)
        for stride in (8, 16, 32)
    )


def random_requests(batch: int, lanes: int, clicks: int = 3, seed: int = 0, steps: int = STEPS) -> Requests:
    """Draw requests: proposals with and without prompts, prompts alone, start points, unknown scores, masked ones."""
    g = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    width, height = SIZE
    index = torch.arange(steps)
    bottom, top = width * uniform(batch, lanes, 1), width * uniform(batch, lanes, 1)
    xs = top + (bottom - top) * index / steps + 3 * uniform(batch, lanes, steps)
    first = (uniform(batch, lanes, 1) * steps * 0.5).floor()
    last = steps - 1 - (uniform(batch, lanes, 1) * steps * 0.3).floor()
    kind = uniform(batch, lanes)  # below .6 a proposal, above .4 prompts if there are any, below .1 masked
    shown = (index >= first) & (index <= last) & (kind > 0.1)[..., None] & (kind < 0.6)[..., None]
    prompted = (uniform(batch, lanes, clicks) < 0.6) & (kind > 0.4)[..., None]
    score = torch.where(uniform(batch, lanes) < 0.3, torch.nan, uniform(batch, lanes))
    return Requests(
        proposal_x=extrapolate_rows(xs, shown),
        proposal_mask=shown,
        score=score,
        prompts=torch.stack([width * uniform(batch, lanes, clicks), height * uniform(batch, lanes, clicks)], dim=-1),
        prompt_mask=prompted,
        is_start=uniform(batch, lanes) < 0.2,
        request_mask=shown.any(-1) | prompted.any(-1),
    )


def same(a: Answers, b: Answers, asked: torch.Tensor) -> None:
    """Check for the same rows, x within a thousandth of a pixel, and the same scores."""
    assert a.visible[asked].equal(b.visible[asked])
    assert (a.xs - b.xs)[asked][a.visible[asked]].abs().max() < 1e-3
    torch.testing.assert_close(a.score[asked], b.score[asked], rtol=0, atol=1e-5)


SETTINGS = [
    {},
    {"row_order": "top_down"},
    {"offset_tokens": False},
    {"global_attention": False},
    {"local_sampling": False},
    {"autoregressive": False},
    {"proposal_stride": 3},
]
