"""Writes one graph as a file of a runtime."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.export.export import written_files
from clrernetlm.weights.exported_metadata import ONNX, OPENVINO, TORCH, About

Target = Literal["onnx", "openvino", "torch"]

Precision = Literal["fp32", "fp16", "bf16", "int8"]

SUFFIXES: dict[Target, str] = {"onnx": ONNX, "openvino": OPENVINO, "torch": TORCH}

OFFERED: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
}


def write_graph(
    graph: Graph,
    path: Path,
    about: About,
    to: Target,
    batches: Sequence[dict[str, Any]] | None = None,
    hidden: Collection[str] = (),
) -> None:
    """Write one graph; `batches`, inputs to calibrate on, make it int8. `hidden`: see `onnx_model`."""
    if to == "torch":
        from clrernetlm.deploy.export.torch_file import write_program

        write_program(graph, path, about)
        return
    from clrernetlm.deploy.export.onnx_file import onnx_model, write_onnx

    model = onnx_model(graph, hidden)
    if to == "onnx":
        write_onnx(model, path, about)
        return
    from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino

    converted = openvino_model(model)
    if batches is not None:
        from clrernetlm.deploy.export.quantisation import quantise

        converted = quantise(converted, batches)
    write_openvino(converted, path, about)


def described(path: Path, about: About) -> str:
    """A line about a file just written."""
    size = sum(file.stat().st_size for file in written_files(path)) / 1e6
    batch = "any number of images" if about.batch is None else f"{about.batch} image at a time"
    trust = "; it can run code, so it opens with --trust-code only" if path.suffix == TORCH else ""
    return f"{path}: {about.part} of {about.config.name or 'model'}, {about.precision}, {batch}, {size:.1f} MB{trust}"
