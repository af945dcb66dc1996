"""Writes graphs as torch.export programs, .pt2, and loads them."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from clrernetlm.core.files import replacing
from clrernetlm.deploy.export.detector_graph import Graph, program_of
from clrernetlm.weights.exported_metadata import KEY, ModelMetadata

NAMES = "names"  # extra file: inputs | outputs


def write_program(graph: Graph, path: Path, metadata: ModelMetadata) -> None:
    """Trace and write a graph with its metadata and the names of its inputs and outputs."""
    names = f"{' '.join(graph.inputs)}|{' '.join(graph.outputs)}"
    # To memory first: PyTorch's own writer aborts the process when a disk is full.
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program_of(graph), buffer, extra_files={KEY: metadata.text(), NAMES: names})
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_program(path: Path) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """Load a program and its extra files. Can run code in the file."""
    extra = {KEY: "", NAMES: ""}
    with warnings.catch_warnings(), open(path, "rb") as file:
        warnings.simplefilter("ignore")
        return torch.export.load(file, extra_files=extra), extra
