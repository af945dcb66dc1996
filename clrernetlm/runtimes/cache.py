"""Exports that are made when a backend is asked for, and kept."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from clrernetlm import __version__
from clrernetlm.config import Config, to_dict
from clrernetlm.files import sha256
from clrernetlm.runtimes.base import Backend
from clrernetlm.weights import FOLDER, cache_folder

GRAPHS = 2  # raised whenever exported graphs change, so that older ones are made anew
TARGETS = {"onnxruntime": "onnx", "openvino": "openvino", "torch": "torch"}


def exported(config: Config, checkpoint: str | os.PathLike[str], backend: Backend, precision: str = "fp32") -> Path:
    """The export of a checkpoint for a backend: a file, for LaneLM a folder; made now if it is not there yet.

    It lies in `<checkpoint>.exported/`; for weights inside the package, and where that folder cannot be written, in the
    cache. Its name follows from weights, settings and version, so that a change of any of them exports again. Raises
    UserError for a checkpoint that does not fit. A checkpoint that does not exist stands for random weights.
    """
    from clrernetlm.export.exporting import SUFFIXES, export_model

    source, target = Path(checkpoint), TARGETS[backend]
    suffix = "" if config.task == "lanelm" else SUFFIXES[target]  # type: ignore[index]
    model = {key: to_dict(config)[key] for key in ("task", "model", "lanelm")}
    weights = sha256(source) if source.is_file() else str(source)
    facts = json.dumps([__version__, GRAPHS, weights, model], sort_keys=True)
    key = hashlib.sha256(facts.encode()).hexdigest()[:12]
    folder = source.with_name(f"{source.name}.exported")
    if source.resolve().is_relative_to(FOLDER) or not os.access(source.parent, os.W_OK):
        folder = cache_folder() / "exported"
    path = folder / f"{config.name or source.stem}_{precision}_{key}{suffix or '_' + target}"
    if not path.exists():
        given = checkpoint if source.exists() else None
        export_model(config, given, target, precision=precision, dynamic_batch=True, out=path)  # type: ignore[arg-type]
    return path
