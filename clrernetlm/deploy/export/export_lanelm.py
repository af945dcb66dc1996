"""Exports LaneLM with its detector as a folder of four graphs, five with a fovea."""

from __future__ import annotations

from pathlib import Path

import torch

from clrernetlm.config import Config
from clrernetlm.config.stored_settings import strip_machine_settings
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, temporary_beside
from clrernetlm.deploy.export.detector_graph import detector_graph
from clrernetlm.deploy.export.fovea_graph import fovea_graph
from clrernetlm.deploy.export.lanelm_graphs import lanelm_graphs
from clrernetlm.deploy.export.write_graph import (
    SUFFIXES,
    Precision,
    Target,
    describe_file,
    require_writable,
    write_graph,
    written_files,
)
from clrernetlm.deploy.graph_names import ENCODE_IMAGE, FOVEA, PREFILL, STEP
from clrernetlm.weights.build_models import init_lanelm
from clrernetlm.weights.exported_metadata import DETECTOR_PART, ModelMetadata


def export_lanelm(
    config: Config,
    checkpoint: PathLike,
    to: Target,
    precision: Precision,
    dynamic_batch: bool,
    out: Path,
    calibration: str | None,
    overwrite: bool = False,
) -> Path:
    """Write `detector`, `look`, `prefill` and `step`, and `fovea` of a model with one, to the folder `out`.

    Arguments as in `export_model`. bf16 and int8 apply to the detector; LaneLM and its fovea compare positions a few
    thousandths of the width apart and stay in fp32. `dynamic_batch` applies to the detector, too: the other graphs take
    any number of images, requests and lanes. Raises UserError for an `out` that cannot be written.
    """
    if out.is_file():
        raise UserError(f"{out}: a file; LaneLM is exported to a folder, so name another folder")
    suffix = SUFFIXES[to]
    # A folder without the detector is of an interrupted export, whose files may be replaced.
    is_complete = (out / f"{DETECTOR_PART}{suffix}").exists()
    files = [out / f"{part}{suffix}" for part in (DETECTOR_PART, ENCODE_IMAGE, PREFILL, STEP, FOVEA)]
    require_writable(files, checkpoint, overwrite or not is_complete)
    model = init_lanelm(config, checkpoint)
    settings = strip_machine_settings(config)
    batches = None
    if calibration is not None:
        from clrernetlm.deploy.export.quantisation import calibration_inputs

        batches = calibration_inputs(calibration, config.model.viewport)
    autocast = torch.bfloat16 if to == "torch" and precision == "bf16" else None
    detector = detector_graph(model.detector, levels=True, dynamic=dynamic_batch, autocast=autocast)
    width, height = config.model.viewport.size
    with torch.no_grad():
        levels = model.detector.extract_feat(torch.zeros(2, 3, height, width))
    lanelm_precision: Precision = "fp16" if precision == "fp16" else "fp32"
    graphs = lanelm_graphs(model.lanelm, levels)
    if model.fovea is not None:
        graphs[FOVEA] = fovea_graph(model.fovea)
    exported: dict[Path, ModelMetadata] = {}
    try:
        with temporary_beside(out / "graphs") as unfinished:
            unfinished.mkdir()
            for part, graph in {**graphs, DETECTOR_PART: detector}.items():
                is_detector = part == DETECTOR_PART
                batch = 1 if is_detector and not dynamic_batch else None
                metadata = ModelMetadata(
                    part,
                    "CLRerNet" if is_detector else "LaneLM",
                    precision if is_detector else lanelm_precision,
                    batch,
                    settings,
                )
                name = f"{part}{SUFFIXES[to]}"
                write_graph(graph, unfinished / name, metadata, to, batches if is_detector else None)
                exported[out / name] = metadata
            replace_graphs(unfinished, out, suffix)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another folder") from None
    for path, metadata in exported.items():
        print(describe_file(path, metadata))
    return out


def replace_graphs(unfinished: Path, out: Path, suffix: str) -> None:
    """Move the files of a whole export into `out`, whose older graphs they replace.

    A fovea's graph of an older export is removed where the new one has none: it belongs to another model. The
    detector's file comes last: it marks the folder as complete.
    """
    if not (unfinished / f"{FOVEA}{suffix}").exists():
        for path in written_files(out / f"{FOVEA}{suffix}"):
            path.unlink(missing_ok=True)
    for path in sorted(unfinished.iterdir(), key=lambda path: path.stem == DETECTOR_PART):
        path.replace(out / path.name)
