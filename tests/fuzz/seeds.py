"""Valid files of every kind that the package reads, small, and built in seconds."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from clrernetlm.config import Config, to_dict
from clrernetlm.config.python_source import to_source
from clrernetlm.core.lane import Lane
from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino
from clrernetlm.deploy.export.torch_file import write_program
from clrernetlm.deploy.graph_names import IMAGES, STAGE
from clrernetlm.metrics.prediction_files import PredictionWriter
from clrernetlm.synth import generate_dataset
from clrernetlm.weights.checkpoint import save_official, write_checkpoint
from clrernetlm.weights.exported_metadata import DETECTOR_PART, KEY, ModelMetadata
from clrernetlm.weights.safetensors_file import write_packed
from tests.helpers.exports import random_detector
from tests.helpers.small_culane import FRAME, road_lanes, write_culane
from tests.helpers.small_detector import small_config
from tests.helpers.small_lanelm import random_lanelm_detector, small_lanelm_config

SIZE = (328, 118)  # width, height of the frames
IMAGE_SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tiff", ".ppm")
VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv")
VIDEO_CODECS = {".avi": "MJPG", ".mp4": "mp4v", ".mkv": "mp4v"}


def build_seeds(folder: Path) -> None:
    """Write all seeds: `data/` (a data set), `images/`, `videos/`, `models/`, `predictions/` and `configs/`."""
    write_data(folder / "data")
    write_pictures(folder)
    write_models(folder / "models")
    write_predictions(folder)
    write_configs(folder)
    # Compiles the generator's kernels where that was not done before: it takes longer than any input may.
    generate_dataset(folder / "roads", 4, 0, 0, size=SIZE, workers=1)


def write_data(root: Path) -> None:
    """Four labelled images with masks, lists of every form, frame differences and per-category lists."""
    names = write_culane(root, 4, size=SIZE)
    (root / "list" / "val.txt").write_text("\n".join(names[:2]) + "\n")
    (root / "list" / "test_split").mkdir()
    for number, name in enumerate(("normal", "crowd")):
        path = root / "list" / "test_split" / f"test{number}_{name}.txt"
        path.write_text("\n".join(names[number::2]) + "\n")
    np.savez_compressed(root / "list" / "train_diffs.npz", data=np.array([255, 20.5, 30, 2.5], np.float32))


def write_pictures(folder: Path) -> None:
    """One image in every format, and videos of six frames."""
    rng = np.random.default_rng(0)
    frames = [cv2.resize(rng.integers(0, 256, (12, 33, 3), np.uint8), SIZE) for _ in range(6)]
    (folder / "images").mkdir()
    for suffix in IMAGE_SUFFIXES:
        cv2.imwrite(str(folder / "images" / f"image{suffix}"), frames[0])
    (folder / "videos").mkdir()
    for suffix in VIDEO_SUFFIXES:
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[suffix])
        writer = cv2.VideoWriter(str(folder / "videos" / f"clip{suffix}"), codec, 25, SIZE)
        for frame in frames:
            writer.write(frame)
        writer.release()


def tiny_detector() -> tuple[Config, nn.Module]:
    """The smallest detector that finds something in these frames."""
    config, model = random_detector()
    config.name = "tiny"
    return config, model


class Answers(nn.Module):
    """What a detector's graph returns, the same for every image: a graph of a few kilobytes in a detector's place."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        head = config.model.head
        for name, size in zip(STAGE, (2, 3, 1, head.num_points), strict=True):
            self.register_buffer(name, torch.rand(1, head.num_priors, size, generator=generator))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        nothing = images.float().mean((1, 2, 3))[:, None, None] * 0
        return tuple(getattr(self, name) + nothing for name in STAGE)


def onnx_answers(answers: Answers) -> Any:
    """`Answers` as an ONNX model, written node by node: tracing it would take longer than all other seeds."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", [IMAGES], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "shape"], ["added"]),
    ]
    constants = {
        "axes": np.array([1, 2, 3], np.int64), "zero": np.zeros(1, np.float32), "shape": np.array([-1, 1, 1], np.int64)
    }  # fmt: skip
    outputs = []
    for name in STAGE:
        value = getattr(answers, name).numpy()
        constants[f"{name}_value"] = value
        nodes.append(helper.make_node("Add", [f"{name}_value", "added"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape))
    inputs = [helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, [1, 64, 160, 3])]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "answers", inputs, outputs, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=onnx.IR_VERSION_2023_5_5)


def write_models(folder: Path) -> None:
    """A detector as .pth, .ckpt and .safetensors, LaneLM, and graphs in a detector's place for every runtime."""
    folder.mkdir()
    config, model = tiny_detector()
    save_official(model, folder / "tiny.pth")  # type: ignore[arg-type]
    write_checkpoint({"state_dict": model.state_dict(), "config": to_dict(config), "epoch": 3}, folder / "tiny.ckpt")
    write_packed(model.state_dict(), config, folder / "tiny.safetensors")
    lanelm = small_lanelm_config(folder / "data", folder / "run", folder / "tiny.pth")
    lanelm.lanelm.detector = None
    write_packed(random_lanelm_detector(lanelm).state_dict(), lanelm, folder / "lanelm.safetensors")
    metadata = ModelMetadata(DETECTOR_PART, "CLRerNet", "fp32", 1, config)
    answers = Answers(config)
    graph = onnx_answers(answers)
    write_openvino(openvino_model(graph), folder / "tiny.xml", metadata)
    graph.metadata_props.add(key=KEY, value=metadata.text())
    (folder / "tiny.onnx").write_bytes(graph.SerializeToString())
    example = torch.zeros(1, 64, 160, 3, dtype=torch.uint8)
    write_program(Graph(answers, {IMAGES: example}, STAGE, {}), folder / "tiny.pt2", metadata)


def write_predictions(folder: Path) -> None:
    """`predictions/`: a predictions.jsonl with its .lines.txt files, and per_image.jsonl of their evaluation."""
    from clrernetlm.metrics.evaluator import evaluate

    names = (folder / "data" / "list" / "test.txt").read_text().split()
    with PredictionWriter(folder / "predictions") as writer:
        for number, name in enumerate(names):
            lanes = [Lane(points * np.divide(SIZE, FRAME) + (number, 0), 0.9) for points in road_lanes()[number:]]
            writer.write(name, lanes)
    evaluate(
        folder / "predictions",
        folder / "data",
        folder / "data" / "list" / "test.txt",
        image_size=SIZE,
        width=8,
        workers=1,
        per_image=folder / "predictions" / "per_image.jsonl",
    )


MMDETECTION = Path(__file__).parents[1] / "config" / "mmdetection"


def write_configs(folder: Path) -> None:
    """`configs/`: a config of ours as source, and MMDetection's files."""
    (folder / "configs").mkdir()
    config = small_config(Path("data"), Path("out/run"))
    config.name = "tiny"
    (folder / "configs" / "tiny.py").write_text(to_source(config))
    for path in sorted(MMDETECTION.rglob("*.py")):
        target = folder / "configs" / "mmdetection" / path.relative_to(MMDETECTION)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


@cache
def content(path: Path) -> bytes:
    """The bytes of a seed, read once."""
    return path.read_bytes()


def pick(rng: Random, folder: Path, pattern: str = "*") -> Path:
    """One of the seeds that match a pattern."""
    return rng.choice([path for path in sorted(folder.glob(pattern)) if path.is_file()])


def metadata_of_xml(text: str) -> tuple[str, str, str]:
    """Split an OpenVINO file: the text before its metadata, the JSON text, the text behind."""
    start = text.index(f'<{KEY} value="') + len(f'<{KEY} value="')
    end = text.index('"', start)
    return text[:start], json.dumps(json.loads(text[start:end].replace("&quot;", '"'))), text[end:]
