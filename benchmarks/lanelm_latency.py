"""Measures the time that LaneLM adds to its detector: `python benchmarks/lanelm_latency.py [--threads N] [--rounds N]`.

From a 1640x590 image in memory, 800x320 for the network, to lanes; CLRerNet with DLA-34 on random weights alone and
with LaneLM, in turns. LaneLM's random weights are such that every lane is decoded on all rows, the slowest case. The
fastest round of each counts. LaneLM's own peak memory is printed for a few numbers of lanes: one more lane must only
cost the memory of its own tokens, not another copy of the image's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import accumulate

import cv2
import numpy as np
import torch
from lanelm_decode import CHANNELS, SIZE, straight_proposals
from numpy.typing import NDArray
from timing import positive, seconds_in_turns, torch_setting
from torch.profiler import ProfilerActivity, profile

from clrernetlm.cli.exit_codes import exit_code_of
from clrernetlm.config import Config, load_config
from clrernetlm.core.lane import Lane
from clrernetlm.core.memory import keep_freed_memory
from clrernetlm.inference.auto_crop import DetectorBatch, run_detector
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm.detector import PromptableDetector
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.postprocess import lanes_from_answers
from clrernetlm.weights.build_models import build_lanelm

CONFIGS = ("lanelm_512_dla34", "lanelm_256_resnet34", "lanelm_128_resnet18", "roads_lanelm")
LANES = 4
COUNTS = (1, 4, 16, 64)


def whole_lanes_model(config: Config) -> PromptableDetector:
    """Build DLA-34 and the LaneLM of a config with random weights that decode `LANES` proposals on every row."""
    torch.manual_seed(0)
    config.model = load_config("clrernet_culane_dla34").model
    config.lanelm.decode = replace(config.lanelm.decode, max_proposals=LANES)
    model = build_lanelm(config).eval()
    assert isinstance(model, PromptableDetector)
    head, lanelm = model.detector.bbox_head, model.lanelm
    with torch.no_grad():
        head.cls_layers.bias[1] = 1.0
        head.reg_layers.bias[3] = 0.9
        lanelm.head.proj_y.bias[0] += 1e3
        lanelm.head.proj_y.bias[-1] -= 1e4
    return model


def peak_of_tensors(run: Callable[[], object]) -> int:
    """Measure the peak memory in bytes of all tensors that a function makes on the CPU."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run()
    assert profiled.profiler is not None
    events = profiled.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    peak: int = max(accumulate(change for _, change in changes))
    return peak


def memory_by_lanes(model: LaneLM) -> str:
    """Describe the peak memory of decoding `COUNTS` lanes of one image, and the memory of one more lane."""
    config = model.config
    levels = tuple(torch.randn(1, CHANNELS, SIZE[1] // stride, SIZE[0] // stride) for stride in (8, 16, 32))
    peaks = []
    for count in COUNTS:
        run = partial(generate, model, levels, straight_proposals(count, config.num_steps))
        run()
        peaks.append(peak_of_tensors(run))
    more = max((peak - peaks[0]) / (count - 1) for peak, count in zip(peaks[1:], COUNTS[1:], strict=True))
    tokens = len(range(0, config.num_steps, config.proposal_stride)) + 1 + config.num_steps
    own = 3 * config.num_layers * tokens * config.embed_dim * 4
    shown = ", ".join(f"{count}: {peak / 1e6:.1f}" for count, peak in zip(COUNTS, peaks, strict=True))
    return (
        f"MB of decoding by lanes {shown}; one more lane {more / 1e3:.0f} kB at most, "
        f"queries, keys and values of its tokens {own / 1e3:.0f} kB: {more / own:.2f} of it"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What LaneLM adds to its detector, image to lanes.")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=positive, default=15)
    parser.add_argument("--cpu-time", action="store_true", help="seconds of the processor: for a busy machine")
    parser.add_argument("--configs", nargs="+", default=CONFIGS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    print(torch_setting(options))
    image = np.random.default_rng(0).integers(0, 256, (590, 1640, 3), np.uint8)
    models = {name: whole_lanes_model(load_config(name)) for name in options.configs}
    models = {name: fuse(model) for name, model in models.items()}
    for name, model in models.items():
        print(f"{name}: {memory_by_lanes(model.lanelm)}")
    keep_freed_memory()
    for name, model in models.items():
        runs = [partial(detector_lanes, model, image), partial(lanelm_lanes, model, image)]
        assert detector_lanes(model, image)
        assert (shown := model.decode_unprompted(run_network(model, image).output).visible).all(), shown.sum(-1)
        alone, both = map(min, seconds_in_turns(runs, options.rounds, clock))
        print(
            f"{name}: detector {1e3 * alone:.0f} ms, with LaneLM on {LANES} lanes {1e3 * both:.0f} ms, "
            f"{100 * (both / alone - 1):.0f} % more"
        )


def run_network(model: PromptableDetector, image: NDArray[np.uint8]) -> DetectorBatch:
    """Run the detector on an image."""
    return run_detector(model.config.model, model.detector, [image], model.config.model.viewport)


def detector_lanes(model: PromptableDetector, image: NDArray[np.uint8]) -> list[Lane]:
    """Detect the lanes of an image with the detector alone."""
    config, found = model.config.model, run_network(model, image)
    predictions = found.output.predictions
    return decode_lanes(predictions, config.decode, found.viewports, found.frames, config.max_lanes)[0]


@torch.inference_mode()
def lanelm_lanes(model: PromptableDetector, image: NDArray[np.uint8]) -> list[Lane]:
    """Detect the lanes of an image with the detector and LaneLM."""
    config, found = model.config, run_network(model, image)
    answers = model.decode_unprompted(found.output)
    return lanes_from_answers(answers, config.lanelm.decode, found.viewports, found.frames, config.model.max_lanes)[0]


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
