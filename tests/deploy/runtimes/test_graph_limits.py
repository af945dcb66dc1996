"""Exported graphs that would take terabytes or hours are refused before they run; graphs of this package are not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clrernetlm import Config, Predictor, UserError
from clrernetlm.core.memory import peak_memory, reset_peak_memory
from clrernetlm.deploy.export.openvino_file import write_openvino
from clrernetlm.deploy.graph_names import IMAGES
from clrernetlm.deploy.runtimes import open_runtime
from clrernetlm.weights.exported_metadata import DETECTOR_PART, KEY, ModelMetadata, load_onnx, read_metadata
from clrernetlm.weights.graph_limits import check_onnx
from tests.fuzz.seeds import Answers, onnx_answers
from tests.helpers.small_detector import small_config

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
openvino = pytest.importorskip("openvino", reason="the extra `export` is not installed")

HUGE = 2_000_000_000
SIDE = 60_000


def metadata() -> ModelMetadata:
    config = small_config(Path("data"), Path("run"))
    return ModelMetadata(DETECTOR_PART, "CLRerNet", "fp32", 1, config)


def node(kind: str, *inputs: str, output: str = "huge", **attributes: Any) -> Any:
    return onnx.helper.make_node(kind, list(inputs), [output], **attributes)


CONSTANTS = {
    "one": np.ones(1, np.float32),
    "huge_shape": np.array([HUGE], np.int64),
    "huge_pads": np.array([0, HUGE], np.int64),
    "square": np.ones((1, 1, 2, 2), np.float32),
    "sides": np.array([1, 1, SIDE, SIDE], np.int64),
    "zero_int": np.array(0, np.int64),
    "huge_int": np.array(HUGE, np.int64),
    "one_int": np.array(1, np.int64),
    "column": np.ones((SIDE, 1), np.float32),
    "row": np.ones((1, SIDE), np.float32),
    "huge_index": np.zeros(SIDE, np.int64),
    "wide": np.ones((1, SIDE), np.float32),
    "half_shape": np.array([SIDE // 2, SIDE], np.int64),
    "two": np.array([2], np.int64),
}
# Each makes `huge` from constants, and from the image's `mean` where a runtime must not compute it beforehand.
HOSTILE: dict[str, list[Any]] = {
    "ConstantOfShape": [node("ConstantOfShape", "huge_shape")],
    "Expand": [node("Expand", "mean", "huge_shape")],
    "Tile": [node("Reshape", "mean", "one_shape", output="mean_1"), node("Tile", "mean_1", "huge_shape")],
    "Range": [node("Range", "zero_int", "huge_int", "one_int", output="counted"), node("Cast", "counted", to=1)],
    "Pad": [node("Reshape", "mean", "one_shape", output="mean_1"), node("Pad", "mean_1", "huge_pads")],
    "Resize": [node("Mul", "square", "mean", output="image"), node("Resize", "image", "", "", "sides")],
    "Add": [node("Mul", "column", "mean", output="high"), node("Add", "high", "row")],
    "MatMul": [node("Mul", "column", "mean", output="high"), node("MatMul", "high", "row")],
    "Gather": [node("Mul", "wide", "mean", output="lane"), node("Gather", "lane", "huge_index", axis=0)],
    "Concat": [
        node("Reshape", "mean", "one_shape", output="grown_0"),
        *(node("Concat", *[f"grown_{i}"] * 2, output=f"grown_{i + 1}", axis=0) for i in range(31)),
        node("Identity", "grown_31"),
    ],
    # A shape that is the result of an operator on shapes.
    "computed": [
        node("Mul", "half_shape", "two", output="whole_shape"),
        node("Expand", "mean", "whole_shape"),
    ],
    "Shape": [
        node("Shape", "column", output="shape_of_column"),
        node("Concat", "shape_of_column", "shape_of_column", output="shape_twice", axis=0),
        node("Expand", "mean", "shape_twice"),
    ],
}  # fmt: skip


def hostile_onnx(nodes: list[Any], path: Path) -> Path:
    model = onnx_answers(Answers(metadata().config))
    graph = model.graph
    for name, value in {**CONSTANTS, "one_shape": np.array([1], np.int64)}.items():
        graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    place = next(index for index, item in enumerate(graph.node) if "mean" in item.output) + 1
    for item in reversed([*nodes, onnx.helper.make_node("ReduceMean", ["huge"], ["mean_of_huge"], keepdims=0)]):
        graph.node.insert(place, item)
    used = next(item for item in graph.node if item.output[0] == "nothing")
    used.input[list(used.input).index("mean")] = "mean_of_huge"
    model.metadata_props.add(key=KEY, value=metadata().text())
    path.write_bytes(model.SerializeToString())
    return path


def refused_at_once(path: Path, backend: str | None, kind: str) -> None:
    """Check that the file is refused in one line that names the operator, with little time and memory."""
    reset_peak_memory(torch.device("cpu"))
    before, start = peak_memory(torch.device("cpu")) or 0, time.process_time()
    with pytest.raises(UserError, match=rf"{path.name}: .*operator {kind} computes \d+ numbers; export") as caught:
        open_runtime(path, 1, backend).run({IMAGES: np.zeros((1, 64, 160, 3), np.uint8)})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 3
    assert (peak_memory(torch.device("cpu")) or 0) - before < 400e6


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_onnx_graphs_with_huge_results_are_refused(tmp_path: Path, kind: str, backend: str) -> None:
    path = hostile_onnx(HOSTILE[kind], tmp_path / "hostile.onnx")
    named = {"computed": "Expand", "Shape": "Expand"}.get(kind, kind)
    refused_at_once(path, backend, named)


def hostile_openvino(kind: str, path: Path) -> Path:
    ops = openvino.opset13
    images = ops.parameter([1, 64, 160, 3], np.uint8)
    images.output(0).set_names({IMAGES})
    mean = ops.reduce_mean(ops.convert(images, "f32"), np.array([1, 2, 3]), True)  # (1, 1, 1, 1)
    single = ops.reshape(mean, np.array([1]), False)
    huge = {
        "Broadcast": lambda: ops.broadcast(single, np.array([HUGE])),
        "Tile": lambda: ops.tile(single, np.array([HUGE])),
        "Pad": lambda: ops.pad(single, np.array([0]), np.array([HUGE]), "constant", np.float32(0)),
        "Interpolate": lambda: ops.interpolate(
            mean, np.array([SIDE, SIDE]), "nearest", "sizes", axes=np.array([2, 3])
        ),
        "Range": lambda: ops.range(np.int64(0), np.int64(HUGE), np.int64(1), "i64"),
        "Add": lambda: ops.add(ops.multiply(single, np.ones((SIDE, 1), np.float32)), np.ones((1, SIDE), np.float32)),
        "MatMul": lambda: ops.matmul(
            ops.multiply(single, np.ones((SIDE, 1), np.float32)), np.ones((1, SIDE), np.float32), False, False
        ),
    }[kind]()  # fmt: skip
    huge = ops.convert(huge, "f32")
    axes = np.arange(len(huge.get_output_partial_shape(0)))
    result = ops.reduce_mean(huge, axes, False)
    result.output(0).set_names({"cls_logits"})
    write_openvino(openvino.Model([result], [images], "hostile"), path, metadata())
    return path


@pytest.mark.parametrize("kind", ["Broadcast", "Tile", "Pad", "Interpolate", "Range", "Add", "MatMul"])
def test_openvino_graphs_with_huge_results_are_refused(tmp_path: Path, kind: str) -> None:
    refused_at_once(hostile_openvino(kind, tmp_path / "hostile.xml"), None, kind)


def test_unknown_operators_are_named(tmp_path: Path) -> None:
    for kind in ("NonZero", "StringConcat", "RandomNormal", "If", "SequenceEmpty"):
        path = hostile_onnx([node(kind, "mean")], tmp_path / "strange.onnx")
        with pytest.raises(UserError, match=rf"strange\.onnx: has the operator {kind}, which no exported model has"):
            read_metadata(path)
    hostile_openvino("Tile", tmp_path / "strange.xml")
    text = (tmp_path / "strange.xml").read_text()
    for old, new, named in (
        ('type="Tile"', 'type="NonZero"', "NonZero"),
        ('type="Tile" version="opset1"', 'type="Tile" version="extension"', "Tile of an extension"),
    ):
        (tmp_path / "strange.xml").write_text(text.replace(old, new))
        with pytest.raises(UserError, match=rf"strange\.xml: has the operator {named}, which no exported model has"):
            read_metadata(tmp_path / "strange.xml")


def test_graphs_with_undetermined_sizes_are_refused(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "mean", output="as_integer", to=7),
        node("Reshape", "as_integer", "one_shape", output="shape_of_pixels"),
        node("Expand", "mean", "shape_of_pixels"),
    ]
    path = hostile_onnx(nodes, tmp_path / "pixels.onnx")
    with pytest.raises(UserError, match=r"pixels\.onnx: the operator Expand has a result of unpredictable size"):
        open_runtime(path, 1)


def test_graphs_of_too_many_operators_are_refused_at_once(tmp_path: Path) -> None:
    chain = [node("Identity", f"x{i}", output=f"x{i + 1}") for i in range(20_000)]
    path = hostile_onnx(
        [node("Identity", "mean", output="x0"), *chain, node("Identity", "x20000")], tmp_path / "a.onnx"
    )
    with pytest.raises(UserError, match=r"a\.onnx: has 200\d\d operators; 20000 are allowed"):
        open_runtime(path, 1)


def test_large_batches_and_images_stay_allowed(tmp_path: Path) -> None:
    config = small_config(Path("data"), Path("run"))
    path = tmp_path / "plain.onnx"
    model = onnx_answers(Answers(config))
    model.metadata_props.add(key=KEY, value=metadata().text())
    path.write_bytes(model.SerializeToString())
    check_onnx(path, load_onnx(path))
    predictor = Predictor(checkpoint=path)
    predictor.set_images([np.zeros((590, 1640, 3), np.uint8)] * 3)
    assert len(predictor.lanes_of_images()) == 3
    assert isinstance(predictor.config, Config)


def test_a_long_attribute_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "long.xml"
    path.write_bytes(b"<net name='" + b"a" * 4_000_000 + b"'/>")
    start = time.process_time()
    with pytest.raises(UserError, match=r"long\.xml: not exported by clrernetlm"):
        read_metadata(path)
    assert time.process_time() - start < 1
    with open(path, "wb") as file:
        file.truncate((1 << 26) + 1)
    with pytest.raises(UserError, match=r"long\.xml: not an OpenVINO model"):
        read_metadata(path)
