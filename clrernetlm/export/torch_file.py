"""Graphs as torch.export programs, .pt2."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from clrernetlm.export.graphs import Graph, program_of
from clrernetlm.files import replacing
from clrernetlm.runtimes.about import KEY, About

NAMES = "names"  # extra file: inputs | outputs


def write_program(graph: Graph, path: Path, about: About) -> None:
    """Trace and write a graph with its description and the names of its inputs and outputs."""
    names = f"{' '.join(graph.inputs)}|{' '.join(graph.outputs)}"
    with warnings.catch_warnings(), replacing(path) as temporary, open(temporary, "wb") as file:
        warnings.simplefilter("ignore")
        torch.export.save(program_of(graph), file, extra_files={KEY: about.text(), NAMES: names})


def load_program(path: Path) -> tuple[torch.export.ExportedProgram, dict[str, Any]]:
    """A program and its extra files."""
    extra = {KEY: "", NAMES: ""}
    with warnings.catch_warnings(), open(path, "rb") as file:
        warnings.simplefilter("ignore")
        return torch.export.load(file, extra_files=extra), extra
