"""Exports checkpoints for a backend when they are first used there, and keeps the exports."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from clrernetlm.config import Config, to_dict
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, cache_folder, sha256
from clrernetlm.core.notices import print_once
from clrernetlm.core.version import __version__
from clrernetlm.deploy.runtimes.base import Backend
from clrernetlm.models.tracing_lock import tracing
from clrernetlm.weights.exported_metadata import DETECTOR_PART
from clrernetlm.weights.registry import FOLDER

if TYPE_CHECKING:
    from clrernetlm.deploy.export import Target

GRAPHS_VERSION = 3  # raised whenever exported graphs change, so that older exports are not used
TARGETS: dict[Backend, Target] = {"onnxruntime": "onnx", "openvino": "openvino", "torch": "torch"}


def cached_export(config: Config, checkpoint: PathLike, backend: Backend, precision: str = "fp32") -> Path:
    """Return the export of a checkpoint for a backend: a file, for LaneLM a folder; exports if it is missing.

    It is in `<checkpoint>.exported/`; for weights inside the package, and where that folder cannot be written, in the
    cache. Its name follows from weights, settings and version, so that a change of any of them exports again. Raises
    UserError for a checkpoint that is missing or does not fit.
    """
    source = Path(checkpoint)
    if not source.is_file():
        raise UserError(f"{source}: no such checkpoint; check the path")
    model = {key: to_dict(config)[key] for key in ("task", "model", "lanelm")}
    identity = json.dumps([__version__, GRAPHS_VERSION, sha256(source), model], sort_keys=True)
    key = hashlib.sha256(identity.encode()).hexdigest()[:12]
    folder = source.with_name(f"{source.name}.exported")
    if source.resolve().is_relative_to(FOLDER) or not os.access(source.parent, os.W_OK):
        folder = cache_folder() / "exported"
    return export_into(folder, f"{config.name or source.stem}_{precision}_{key}", config, source, backend, precision)


def export_into(
    folder: Path, stem: str, config: Config, checkpoint: PathLike, backend: Backend, precision: str
) -> Path:
    """Return the export called `stem` in `folder`; exports unless it is complete."""
    from clrernetlm.deploy.export.exporter import export_model
    from clrernetlm.deploy.export.write_graph import SUFFIXES

    target = TARGETS[backend]
    path = folder / f"{stem}{'_' + target if config.task == 'lanelm' else SUFFIXES[target]}"
    # Of LaneLM's files the detector's is written last: a folder without it is of an interrupted export.
    last = path / f"{DETECTOR_PART}{SUFFIXES[target]}" if config.task == "lanelm" else path
    with tracing():  # of several threads that need the same export, the first makes it
        if not last.exists():
            print_once(
                f"exporting {config.name or 'the model'} for {backend}, which takes up to a minute; kept in {folder}"
            )
            export_model(config, checkpoint, target, precision=precision, dynamic_batch=True, out=path, overwrite=True)  # type: ignore[arg-type]
    return path
