"""Measures greedy decoding with and without the KV cache.

`python benchmarks/lanelm_decode.py [--threads N] [--rounds N]`. LaneLM with the settings of `LaneLMNetworkConfig`,
optimised by `fuse`, an 800x320 image and four proposals, each decoded on all 40 rows. The slow way runs the whole
sequence through the decoder for every keypoint; both encode the image once. The two take turns, the fastest round of
each counts, and they must decode the same tokens.
"""

from __future__ import annotations

from functools import partial

import torch
from timing import seconds_in_turns, torch_options, torch_setting

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import LaneLMNetworkConfig
from clrernetlm.core.memory import keep_freed_memory
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.requests import Requests, requests_from_proposals

SIZE = (800, 320)
CHANNELS = 64
LANES = 4


def whole_lanes_model() -> LaneLM:
    """Build a LaneLM with random weights that begins every lane on the lowest row and never ends one."""
    torch.manual_seed(0)
    model = LaneLM(LaneLMNetworkConfig(), CHANNELS, SIZE).eval()
    with torch.no_grad():
        model.head.proj_y.bias[0] += 1e3
        model.head.proj_y.bias[-1] -= 1e4
    return fuse(model)


def straight_proposals(lanes: int, steps: int) -> Requests:
    """Build requests of one image from straight lanes side by side, on all rows."""
    xs = (SIZE[0] * torch.linspace(0.2, 0.8, lanes))[None, :, None].expand(1, lanes, steps)
    return requests_from_proposals(Proposals(xs, torch.ones_like(xs, dtype=torch.bool), torch.full((1, lanes), 0.9)))


def main() -> None:
    options = torch_options("Decoding with and without the cache", rounds=11)
    keep_freed_memory()
    model = whole_lanes_model()
    steps = model.config.num_steps
    levels = tuple(torch.randn(1, CHANNELS, SIZE[1] // stride, SIZE[0] // stride) for stride in (8, 16, 32))
    requests = straight_proposals(LANES, steps)

    cached, full = generate(model, levels, requests), generate(model, levels, requests, cached=False)
    assert bool(cached.visible.all())
    assert cached.visible.equal(full.visible)
    assert model.x_tokens(cached.xs).equal(model.x_tokens(full.xs)), "different tokens"
    runs = [partial(generate, model, levels, requests), partial(generate, model, levels, requests, cached=False)]
    with torch.inference_mode():
        fast, slow, encoding = map(min, seconds_in_turns([*runs, partial(model.encode_image, levels)], options.rounds))
    tokens = LANES * steps
    print(torch_setting(options))
    print(f"{LANES} lanes x {steps} keypoints, width {model.config.embed_dim}, the same tokens both ways")
    print(
        f"cached {1e3 * fast:.1f} ms ({tokens / fast:.0f} keypoints/s), "
        f"{1e3 * encoding:.1f} ms of it encoding the image"
    )
    print(f"recomputed {1e3 * slow:.1f} ms ({tokens / slow:.0f} keypoints/s): {slow / fast:.1f} times as long")
    print(f"without encoding the image: {(slow - encoding) / (fast - encoding):.1f} times as long")


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
