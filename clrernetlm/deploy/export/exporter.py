"""Exports models as files for other runtimes: `clrernetlm export`."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from clrernetlm.config import Config
from clrernetlm.config.stored_settings import strip_machine_settings
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike
from clrernetlm.deploy.export.detector_graph import detector_graph
from clrernetlm.deploy.export.write_graph import (
    OFFERED,
    SUFFIXES,
    Precision,
    Target,
    describe_file,
    require_writable,
    write_graph,
)
from clrernetlm.deploy.graph_names import LEVELS
from clrernetlm.models.tracing_lock import tracing
from clrernetlm.weights.build_models import init_detector
from clrernetlm.weights.exported_metadata import DETECTOR_PART, ModelMetadata
from clrernetlm.weights.registry import BUNDLED
from clrernetlm.weights.resolve import resolve_model


@check_arguments
@tracing()
def export_model(
    config: Config | PathLike | None,
    checkpoint: PathLike | None = None,
    to: Target = "onnx",
    *,
    precision: Precision = "fp32",
    dynamic_batch: bool = False,
    out: str | os.PathLike[str] | None = None,
    calibration: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model for another runtime; returns the file, or for LaneLM the folder with one file per graph.

    A detector is one graph from pixels to predictions (`detector_graph.DetectorGraph`), LaneLM three more
    (`lanelm_graphs`). `out` is a file, for LaneLM a folder; the default is named after the config. `dynamic_batch`
    takes any number of images, else one at a time. `precision`: fp16 and int8 make smaller files; bf16, int8 and, where
    the processor has it, fp16 compute faster. int8 is calibrated on the images of `calibration`, a folder or a list of
    paths. `config` and `checkpoint` as in `resolve_model`, but one of them has to be given.

    Of several threads one exports at a time, and predictors wait for it; other networks of this process must not run
    meanwhile, because PyTorch replaces `nn.Module.__call__` while it traces.

    Raises UserError for a combination that is not offered, a checkpoint that does not fit, an `out` of another suffix,
    and, before any work, for a file that would be overwritten: exported models may be with `overwrite`, others never.
    """
    if config is None and checkpoint is None:
        raise UserError(f"config: missing; name a model ({', '.join(BUNDLED)}), or a checkpoint of your own")
    if precision not in OFFERED[to]:
        raise UserError(f"precision: {precision} is not offered for {to}; use {', '.join(OFFERED[to])}")
    if (precision == "int8") != (calibration is not None):
        need = "int8 needs images to calibrate on; give a folder or list of them"
        raise UserError(f"calibration: {need if precision == 'int8' else 'only int8 uses it; leave it out'}")
    config, checkpoint = resolve_model(config, checkpoint)
    suffix = SUFFIXES[to]
    stem = config.name or "model"
    if config.task == "lanelm":
        from clrernetlm.deploy.export.export_lanelm import export_lanelm

        return export_lanelm(
            config, checkpoint, to, precision, dynamic_batch, Path(out or f"{stem}_{to}"), calibration, overwrite
        )
    target = Path(out or f"{stem}{suffix}")
    if target.suffix != suffix:
        raise UserError(f"{target}: a model exported to {to} ends in {suffix}; use {target.with_suffix(suffix)}")
    require_writable([target], checkpoint, overwrite)
    model = init_detector(config, checkpoint)
    autocast = torch.bfloat16 if to == "torch" and precision == "bf16" else None
    # The OpenVINO runtime computes the graph up to the pyramid in one precision and the rest in another; it finds the
    # pyramid by its names.
    hidden = () if to == "torch" else LEVELS
    graph = detector_graph(model, levels=bool(hidden), dynamic=dynamic_batch, autocast=autocast)
    metadata = ModelMetadata(
        DETECTOR_PART, "CLRerNet", precision, None if dynamic_batch else 1, strip_machine_settings(config)
    )
    batches = None
    if calibration is not None:
        from clrernetlm.deploy.export.quantisation import calibration_inputs

        batches = calibration_inputs(calibration, config.model.viewport)
    write_graph(graph, target, metadata, to, batches, hidden)
    print(describe_file(target, metadata))
    return target
