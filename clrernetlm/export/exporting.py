"""A model as files for other runtimes: `clrernetlm export`."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from clrernetlm.argument_checks import check_arguments
from clrernetlm.config import Config
from clrernetlm.config.stored import without_paths
from clrernetlm.errors import UserError
from clrernetlm.export.graphs import Graph, detector_graph
from clrernetlm.files import PathLike
from clrernetlm.models.clrernet import init_detector
from clrernetlm.models.shared_use import tracing
from clrernetlm.output_files import ReadFiles, check_output
from clrernetlm.runtimes.about import DETECTOR, ONNX, OPENVINO, TORCH, About, read_about
from clrernetlm.runtimes.names import LEVELS
from clrernetlm.weights import SHIPPED
from clrernetlm.weights.finding import find_settings_and_weights

Target = Literal["onnx", "openvino", "torch"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
SUFFIXES: dict[Target, str] = {"onnx": ONNX, "openvino": OPENVINO, "torch": TORCH}
OFFERED: dict[Target, tuple[Precision, ...]] = {
    "onnx": ("fp32", "fp16"),
    "openvino": ("fp32", "fp16", "bf16", "int8"),
    "torch": ("fp32", "bf16"),
}


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

    A detector is one graph from pixels to predictions (`export.graphs.DetectorGraph`), LaneLM three more
    (`export.lanelm_graphs`). `out` is a file, for LaneLM a folder; the default is named after the config.
    `dynamic_batch` takes any number of images, else one at a time. `precision`: fp16 and int8 make smaller files; bf16,
    int8 and, where the processor has it, fp16 compute faster. int8 looks at the images of `calibration`, a folder or a
    list of paths. `config` and `checkpoint` as in `find_settings_and_weights`, but one of them has to be given.

    Of several threads one exports at a time, and predictors wait for it; other networks of this process must not run
    meanwhile, because PyTorch replaces `nn.Module.__call__` while it traces.

    Raises UserError for a combination that is not offered, a checkpoint that does not fit, an `out` of another suffix,
    and, before any work, for a file that would be overwritten: exported models may be with `overwrite`, others never.
    """
    if config is None and checkpoint is None:
        raise UserError(f"config: missing; name a model ({', '.join(SHIPPED)}), or a checkpoint of your own")
    if precision not in OFFERED[to]:
        raise UserError(f"--precision: {precision} is not offered for {to}; use {', '.join(OFFERED[to])}")
    if (precision == "int8") != (calibration is not None):
        need = "int8 needs images to calibrate on; add --calibration FOLDER or LIST"
        raise UserError(f"--calibration: {need if precision == 'int8' else 'only int8 uses it; leave it out'}")
    config, checkpoint = find_settings_and_weights(config, checkpoint)
    suffix = SUFFIXES[to]
    stem = config.name or "model"
    if config.task == "lanelm":
        from clrernetlm.export.lanelm_exporting import export_lanelm

        return export_lanelm(
            config, checkpoint, to, precision, dynamic_batch, Path(out or f"{stem}_{to}"), calibration, overwrite
        )
    target = Path(out or f"{stem}{suffix}")
    if target.suffix != suffix:
        raise UserError(f"{target}: a model exported to {to} ends in {suffix}; use {target.with_suffix(suffix)}")
    require_writable([target], checkpoint, overwrite)
    model = init_detector(config, checkpoint)
    autocast = torch.bfloat16 if to == "torch" and precision == "bf16" else None
    # The OpenVINO runtime computes up to the pyramid in one precision and the rest in another: it finds it by name.
    hidden = () if to == "torch" else LEVELS
    graph = detector_graph(model, levels=bool(hidden), dynamic=dynamic_batch, autocast=autocast)
    about = About(DETECTOR, "CLRerNet", precision, None if dynamic_batch else 1, without_paths(config))
    batches = None
    if calibration is not None:
        from clrernetlm.export.quantisation import calibration_inputs

        batches = calibration_inputs(calibration, config.model.viewport)
    write_graph(graph, target, about, to, batches, hidden)
    print(described(target, about))
    return target


def require_writable(targets: Sequence[Path], checkpoint: str | os.PathLike[str] | None, overwrite: bool) -> None:
    """Raise UserError for an exported file that would replace a file and may not."""
    reads = ReadFiles([checkpoint] if checkpoint is not None else [])
    for target in targets:
        # OpenVINO's weights say nothing about themselves; they belong to the file beside them.
        own = is_exported(target)

        def known(path: Path, own: bool = own) -> bool:
            return own

        for path in written_files(target):
            check_output(path, "an exported model", known, parameter="out", overwrite=overwrite, reads=reads)


def is_exported(path: Path) -> bool:
    """Whether a file is a model that was exported by this program."""
    try:
        read_about(path)
    except UserError:
        return False
    return True


def written_files(path: Path) -> list[Path]:
    """The files of an exported graph: OpenVINO's weights are in a second one."""
    return [path, path.with_suffix(".bin")] if path.suffix == OPENVINO else [path]


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
        from clrernetlm.export.torch_file import write_program

        write_program(graph, path, about)
        return
    from clrernetlm.export.onnx_file import onnx_model, write_onnx

    model = onnx_model(graph, hidden)
    if to == "onnx":
        write_onnx(model, path, about)
        return
    from clrernetlm.export.openvino_file import openvino_model, write_openvino

    converted = openvino_model(model)
    if batches is not None:
        from clrernetlm.export.quantisation import quantise

        converted = quantise(converted, batches)
    write_openvino(converted, path, about)


def described(path: Path, about: About) -> str:
    """A line about a file just written."""
    size = sum(file.stat().st_size for file in written_files(path)) / 1e6
    batch = "any number of images" if about.batch is None else f"{about.batch} image at a time"
    trust = "; it can run code, so it opens with --trust-code only" if path.suffix == TORCH else ""
    return f"{path}: {about.part} of {about.config.name or 'model'}, {about.precision}, {batch}, {size:.1f} MB{trust}"
