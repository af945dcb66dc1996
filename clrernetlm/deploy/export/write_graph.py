"""Writes one graph as a file for a runtime."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

from clrernetlm.core.errors import UserError
from clrernetlm.core.overwrite_rules import ReadFiles, check_output
from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.weights.exported_metadata import ONNX, OPENVINO, TORCH, ModelMetadata, read_metadata

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
    metadata: ModelMetadata,
    to: Target,
    batches: Sequence[dict[str, Any]] | None = None,
    hidden: Collection[str] = (),
) -> None:
    """Write one graph to `path`. `batches`: inputs to calibrate on, for int8. `hidden`: see `onnx_model`."""
    if to == "torch":
        from clrernetlm.deploy.export.torch_file import write_program

        write_program(graph, path, metadata)
        return
    from clrernetlm.deploy.export.onnx_file import onnx_model, write_onnx

    model = onnx_model(graph, hidden)
    if to == "onnx":
        write_onnx(model, path, metadata)
        return
    from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino

    converted = openvino_model(model)
    if batches is not None:
        from clrernetlm.deploy.export.quantisation import quantise

        converted = quantise(converted, batches)
    write_openvino(converted, path, metadata)


def describe_file(path: Path, metadata: ModelMetadata) -> str:
    """Describe a file just written in one line."""
    size = sum(file.stat().st_size for file in written_files(path)) / 1e6
    batch = "any number of images" if metadata.batch is None else f"{metadata.batch} image at a time"
    trust = "; it can run code, so opening it needs trust_code" if path.suffix == TORCH else ""
    name = metadata.config.name or "model"
    return f"{path}: {metadata.part} of {name}, {metadata.precision}, {batch}, {size:.1f} MB{trust}"


def written_files(path: Path) -> list[Path]:
    """List the files of an exported graph: OpenVINO's weights are in a second one."""
    return [path, path.with_suffix(".bin")] if path.suffix == OPENVINO else [path]


def require_writable(targets: Sequence[Path], checkpoint: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """Raise UserError if an exported file would replace a file that must not be replaced."""
    reads = ReadFiles([checkpoint] if checkpoint is not None else [])
    for target in targets:
        # OpenVINO's weights have no metadata; they belong to the file beside them.
        ours = is_exported(target)

        def is_ours(path: Path, ours: bool = ours) -> bool:
            return ours

        for path in written_files(target):
            check_output(path, "an exported model", is_ours, parameter="out", overwrite=overwrite, reads=reads)


def is_exported(path: Path) -> bool:
    """Check whether a file is a model that clrernetlm exported."""
    try:
        read_metadata(path)
    except UserError:
        return False
    return True
