"""Exported detectors used instead of PyTorch ones: Predictor, `detect`, `test` and `speed`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.cli import main
from clrernetlm.config import Config
from clrernetlm.core.lane import Lane
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino
from clrernetlm.deploy.runtimes.export_cache import cached_export
from clrernetlm.evaluation.speed import speed
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.synth import CATEGORIES, render, sample_scene
from clrernetlm.weights.exported_metadata import read_metadata
from clrernetlm.weights.resolve import find_model
from clrernetlm.weights.safetensors_file import write_packed
from tests.helpers.drawn_roads import write_drawn_roads
from tests.helpers.exports import random_detector

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("openvino", reason="the extra `export` is not installed")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, CLRerNet, Path]:
    """Pack a detector for four drawn roads; its exports stay beside it for all tests."""
    folder = tmp_path_factory.mktemp("packed")
    config, model = random_detector(stages=1)
    path = folder / "small.safetensors"
    write_packed(model.state_dict(), config, path, "fp32")
    config, _ = find_model(path)
    config.data.root, config.data.batch_size = str(write_drawn_roads(folder / "roads", 4)), 3
    return config, model, path


def pictures(config: Config) -> list[np.ndarray]:
    return [cv2.imread(str(path)) for path in sorted(Path(config.data.root).glob("driver_1/*/*.jpg"))]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_predictor_finds_the_same_lanes(packed, backend: str) -> None:
    config, _, path = packed
    ours, theirs = Predictor(checkpoint=path, backend=backend), Predictor(checkpoint=path)
    for predictor in (ours, theirs):
        predictor.set_images(pictures(config))
    pairs = list(zip(ours.lanes_of_images(), theirs.lanes_of_images(), strict=True))
    assert sum(len(theirs) for _, theirs in pairs) > 0
    for one, other in pairs:
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)
            assert np.allclose(a.points, b.points, atol=0.05)


@pytest.fixture(scope="module")
def hundred_roads() -> list[np.ndarray]:
    """Generate frames of all categories."""
    rng = np.random.default_rng(11)
    kinds = [kind for kind in CATEGORIES if kind != "cross"]
    return [render(sample_scene(rng, kinds[i % len(kinds)], (410, 148), 4), rng) for i in range(100)]


def found_by(predictor: Predictor, images: list[np.ndarray]) -> list[list[Lane]]:
    """Detect the lanes of every image, 25 at a time, in the configured crop."""
    lanes: list[list[Lane]] = []
    for start in range(0, len(images), 25):
        predictor.set_images(images[start : start + 25], predictor.config.model.viewport)
        lanes += predictor.lanes_of_images()
    return lanes


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export the shipped detector, traced once, to files."""
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    folder = tmp_path_factory.mktemp("shipped")
    config, weights = find_model("roads_detector")
    files = {"onnxruntime": export_model(config, weights, "onnx", dynamic_batch=True, out=folder / "lanes.onnx")}
    metadata, traced = read_metadata(files["onnxruntime"]), onnx.load(files["onnxruntime"])
    for name, precision in {"openvino": "fp32", "openvino bf16": "bf16"}.items():
        files[name] = folder / f"{precision}.xml"
        write_openvino(openvino_model(traced), files[name], replace(metadata, precision=precision))
    return files


@pytest.fixture(scope="module")
def pytorch_lanes(hundred_roads: list[np.ndarray]) -> list[list[Lane]]:
    """Detect the lanes of the hundred roads with the shipped detector in PyTorch."""
    return found_by(Predictor("roads_detector"), hundred_roads)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_shipped_detector_finds_identical_lanes_on_a_hundred_roads(
    name: str, hundred_roads: list[np.ndarray], shipped: dict[str, Path], pytorch_lanes: list[list[Lane]]
) -> None:
    ours, theirs = found_by(Predictor(checkpoint=shipped[name]), hundred_roads), pytorch_lanes
    assert sum(map(len, theirs)) > 200
    for one, other in zip(ours, theirs, strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)
            assert a.points.shape == b.points.shape
            assert np.allclose(a.points, b.points, atol=0.05)  # pixels


def test_half_precision_moves_lanes_by_a_fraction_of_a_pixel(
    hundred_roads: list[np.ndarray], shipped: dict[str, Path]
) -> None:
    """A head in bf16 moves them by more than a pixel on average."""
    images = hundred_roads[:25]
    low, full = Predictor(checkpoint=shipped["openvino bf16"]), Predictor("roads_detector")
    found_by(low, images), found_by(full, images)
    one, other = (predictor._require_state().batch.output.predictions for predictor in (low, full))
    sure = other["cls_logits"].softmax(-1)[..., 1] > 0.3
    assert sure.sum() > 100
    moved = (one["xs"] - other["xs"])[sure].abs().mean() * full.viewport.width
    assert moved < 0.6


# A woken thread of PyTorch spins for milliseconds, on a core that the runtime needs for the next image.
WATCH_THREADS = """
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
def test_pytorch_threads_are_idle_while_a_runtime_works(shipped: dict[str, Path], tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    cv2.imwrite(str(tmp_path / "road.jpg"), render(sample_scene(rng, "normal", (820, 410), 4), rng))
    run = subprocess.run(
        [sys.executable, "-c", WATCH_THREADS, str(shipped["onnxruntime"]), str(tmp_path / "road.jpg")],
        capture_output=True,
        text=True,
        check=True,
    )
    runtime, pytorch = (int(nanoseconds) for nanoseconds in run.stdout.split())
    assert runtime < 100_000 < pytorch


def test_an_automatic_export_is_made_once(packed) -> None:
    config, _, path = packed
    first = cached_export(config, path, "onnxruntime")
    made = first.stat().st_mtime_ns
    assert first.parent == path.with_name("small.safetensors.exported")
    assert cached_export(config, path, "onnxruntime") == first
    assert first.stat().st_mtime_ns == made


def test_commands_take_a_backend_and_exported_files(packed, tmp_path: Path) -> None:
    config, _, path = packed
    picture = sorted(Path(config.data.root).glob("driver_1/*/*.jpg"))[0]
    file = cached_export(config, path, "onnxruntime")
    found = {}
    for name, words in {
        "torch": ["--model", str(path)],
        "runtime": ["--model", str(path), "--backend", "onnxruntime"],
        "file": ["--model", str(file)],
    }.items():
        assert main(["detect", str(picture), *words, "--out", str(tmp_path / name), "--device", "cpu"]) == 0
        found[name] = json.loads((tmp_path / name / "lanes.json").read_text())[0]["lanes"]
    assert len(found["torch"]) > 0
    for name in ("runtime", "file"):
        assert len(found[name]) == len(found["torch"])
        for one, other in zip(found[name], found["torch"], strict=True):
            assert np.allclose(one["points"], other["points"], atol=0.05)
    scores = {}
    for name, words in {"torch": [str(path)], "file": [str(file)]}.items():
        words = [*words, "--data.root", config.data.root, "--json", str(tmp_path / f"{name}.json"), "--device", "cpu"]
        assert main(["test", *words]) == 0
        scores[name] = json.loads((tmp_path / f"{name}.json").read_text())["total"]
    assert scores["file"] == scores["torch"]


def test_speed_times_a_runtime(packed) -> None:
    config, _, path = packed
    found = speed(config, str(path), backend="onnxruntime", iterations=1)
    assert {result.runtime for result in found} == {"onnxruntime"}
    with pytest.raises(UserError, match="keeps its own, fp32"):
        speed(config, str(path), backend="onnxruntime", iterations=1, precisions=("fp32", "bf16"))


def test_unsupported_backends_are_a_one_line_error(packed, tmp_path: Path) -> None:
    config, _, path = packed
    file = cached_export(config, path, "onnxruntime")
    for arguments, words in (
        ({"checkpoint": path, "backend": "tensorrt"}, "unknown; use one of torch, onnxruntime, openvino"),
        ({"checkpoint": file, "backend": "torch"}, "exported for onnxruntime, which torch cannot run"),
        ({"checkpoint": file, "device": "cuda"}, "backend onnxruntime runs on the CPU; use cpu"),
        ({"checkpoint": tmp_path / "absent.onnx"}, "no such checkpoint"),
        ({"config": config, "checkpoint": tmp_path / "absent.pth", "backend": "openvino"}, "no such checkpoint"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            Predictor(**arguments)
        assert "\n" not in str(caught.value)


def test_images_of_another_size_than_the_file_was_made_for_are_refused(packed) -> None:
    config, _, path = packed
    file = cached_export(config, path, "onnxruntime")
    predictor = Predictor(checkpoint=file)
    with pytest.raises(UserError, match="was exported for 160x64"):
        predictor.detector.run(torch.zeros((1, 3, 32, 32), dtype=torch.uint8))
