"""Exports LaneLM with its detector as a folder of four graphs."""

from __future__ import annotations

from pathlib import Path

import torch

from clrernetlm.config import Config
from clrernetlm.config.stored_settings import strip_machine_settings
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import PathLike, temporary_beside
from clrernetlm.deploy.export.detector_graph import detector_graph
from clrernetlm.deploy.export.lanelm_graphs import lanelm_graphs
from clrernetlm.deploy.export.write_graph import (
    SUFFIXES,
    Precision,
    Target,
    describe_file,
    require_writable,
    write_graph,
)
from clrernetlm.deploy.graph_names import ENCODE_IMAGE, PREFILL, STEP
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
    """Write `detector`, `look`, `prefill` and `step` to the folder `out`; arguments as in `export_model`.

    bf16 and int8 apply to the detector; LaneLM compares positions a few thousandths of the width apart and stays in
    fp32. `dynamic_batch` applies to the detector, too: LaneLM's graphs take any number of images and requests. Raises
    UserError for an `out` that cannot be written.
    """
    if out.is_file():
        raise UserError(f"{out}: a file; LaneLM is exported to a folder, so name another folder")
    suffix = SUFFIXES[to]
    # A folder without the detector is of an interrupted export, whose files may be replaced.
    is_complete = (out / f"{DETECTOR_PART}{suffix}").exists()
    files = [out / f"{part}{suffix}" for part in (DETECTOR_PART, ENCODE_IMAGE, PREFILL, STEP)]
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
    exported: dict[Path, ModelMetadata] = {}
    try:
        with temporary_beside(out / "graphs") as unfinished:
            unfinished.mkdir()
            for part, graph in {**lanelm_graphs(model.lanelm, levels), DETECTOR_PART: detector}.items():
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
            # All files are written before the first replaces an older one. The detector's comes last: it marks the
            # folder as complete.
            for path in sorted(unfinished.iterdir(), key=lambda path: path.stem == DETECTOR_PART):
                path.replace(out / path.name)
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror}); name another folder") from None
    for path, metadata in exported.items():
        print(describe_file(path, metadata))
    return out
