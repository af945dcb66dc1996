"""Runtimes have the processor for themselves."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from clrernetlm.deploy.export import export_model
from clrernetlm.synth import render, sample_scene
from clrernetlm.weights.resolve import find_model

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")

# A thread of PyTorch that was woken spins for milliseconds, on a core that the runtime needs for the next image.
SCRIPT = """
import os, sys, time, cv2, torch

def threads():
    return set(os.listdir("/proc/self/task"))

def state(thread):
    return open(f"/proc/self/task/{thread}/stat").read().rpartition(")")[2].split()[0]

def worked():
    # The system counts when a thread stops, or later. On a busy machine it may be long before that spins to its end.
    while any(state(thread) == "R" for thread in workers):
        time.sleep(0.01)
    time.sleep(0.1)
    return sum(int(open(f"/proc/self/task/{thread}/schedstat").read().split()[0]) for thread in workers)

torch.set_num_threads(2)
before = threads()
torch.rand(1 << 20).exp()
workers = threads() - before
assert workers, "PyTorch has started no threads"
from clrernetlm import Predictor

predictor, image = Predictor(checkpoint=sys.argv[1]), cv2.imread(sys.argv[2])
for _ in range(2):
    start = worked()
    for _ in range(3):
        predictor.set_image(image)
        lanes = predictor.lanes()
assert lanes
print(worked() - start)
start = worked()
for _ in range(10):
    torch.rand(1 << 20).exp()
print(worked() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux tells how long a thread has run")
def test_threads_of_pytorch_sleep_while_a_runtime_works(tmp_path: Path) -> None:
    config, weights = find_model("roads_detector")
    exported = export_model(config, weights, "onnx", out=tmp_path / "lanes.onnx")
    rng = np.random.default_rng(5)
    cv2.imwrite(str(tmp_path / "road.jpg"), render(sample_scene(rng, "normal", (820, 410), 4), rng))
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(exported), str(tmp_path / "road.jpg")],
        capture_output=True,
        text=True,
        check=True,
    )
    runtime, pytorch = (int(nanoseconds) for nanoseconds in run.stdout.split())
    assert runtime < 100_000 < pytorch
