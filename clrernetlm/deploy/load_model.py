"""Loads models to run them: in PyTorch, or exported and in a runtime."""

from __future__ import annotations

from pathlib import Path

import torch

from clrernetlm.config import Config
from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import EXPORTED_SUFFIXES, PathLike, temporary_folder
from clrernetlm.core.notices import print_once
from clrernetlm.deploy.runtimes.base import BACKENDS, Backend
from clrernetlm.deploy.runtimes.export_cache import cached_export, export_into
from clrernetlm.deploy.runtimes.exported_detector import ExportedDetector
from clrernetlm.deploy.runtimes.open_runtime import SUFFIX_OF, open_runtime
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm.cuda_graph import CudaGraphDecoder
from clrernetlm.models.lanelm.detector import LaneLMDetectorBase, PromptableDetector
from clrernetlm.models.tracing_lock import running, tracing
from clrernetlm.weights.build_models import build_network
from clrernetlm.weights.exported_metadata import ONNX
from clrernetlm.weights.registry import RANDOM
from clrernetlm.weights.resolve import exported_file, resolve_model

LoadedModel = CLRerNet | ExportedDetector | LaneLMDetectorBase
NATIVE_BACKEND = {suffix: backend for backend, suffix in SUFFIX_OF.items()}


@check_arguments
def load_model(
    config: Config | PathLike | None,
    checkpoint: PathLike | None = None,
    device: str = "cpu",
    backend: Backend | None = None,
    precision: str = "fp32",
    compiled: bool = False,
    trust_code: bool = False,
) -> LoadedModel:
    """Load the model that `config.task` names: a detector, or LaneLM with its detector.

    `config` and `checkpoint` as in `resolve_model`; the checkpoint is weights, or an export that `clrernetlm export`
    wrote: a file, for LaneLM a folder. With the backend onnxruntime or openvino weights are exported first, in
    `precision`, beside the checkpoint. None means torch, where `fuse` optimises the model (`compiled` on CUDA also
    records LaneLM's decoding), or for an exported file the backend of its format. No file can run code, except a .pt2
    with `trust_code`. Raises UserError for an unknown or unfit backend, for a device that a backend cannot use, for a
    .pt2 without `trust_code`, and as `init_detector` and `fuse`.
    """
    settings, weights = resolve_model(config, checkpoint)
    return load_resolved_model(settings, weights, device, backend, precision, compiled, trust_code)


def load_resolved_model(
    config: Config,
    checkpoint: str,
    device: str = "cpu",
    backend: Backend | None = None,
    precision: str = "fp32",
    compiled: bool = False,
    trust_code: bool = False,
) -> LoadedModel:
    """Load as `load_model`; `config` and `checkpoint` as `resolve_model` returns them."""
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"backend: '{backend}' is unknown; use one of {', '.join(BACKENDS)}")
    suffix = exported_suffix(checkpoint)
    if suffix is None and backend in (None, "torch"):
        with running():
            fast = fuse(build_network(config, checkpoint, device), precision, compiled)
        if compiled:
            print_once("the network is compiled at the first image, which takes about a minute")
        if compiled and isinstance(fast, PromptableDetector) and device_of(fast).type == "cuda":
            fast.generate_answers = CudaGraphDecoder()
        return fast
    if device not in ("cpu", "auto"):
        raise UserError(
            f"device: {device}, but backend {backend or NATIVE_BACKEND[suffix or '']} runs on the CPU; use cpu"
        )
    if suffix is None:
        assert backend is not None
        if checkpoint != RANDOM:
            return open_exported(config, cached_export(config, checkpoint, backend, precision), backend)
        with temporary_folder() as folder:  # runtimes keep the file's content in memory
            return open_exported(config, export_into(folder, RANDOM, config, RANDOM, backend, precision), backend)
    native = NATIVE_BACKEND[suffix]
    if backend not in (None, native) and not (backend == "openvino" and suffix == ONNX):
        raise UserError(f"{checkpoint}: exported for {native}, which {backend} cannot run; leave the backend out")
    return open_exported(config, Path(checkpoint), backend or native, trust_code)


def open_exported(
    config: Config, path: Path, backend: Backend, trust_code: bool = False
) -> ExportedDetector | LaneLMDetectorBase:
    """Open an exported detector, or a folder with an exported LaneLM, in its runtime, with PyTorch's number of threads.

    `trust_code` as in `open_runtime`.
    """
    with tracing():  # reading a torch.export program traces, too
        if config.task == "lanelm":
            from clrernetlm.deploy.runtimes.exported_lanelm import ExportedLaneLM

            return ExportedLaneLM(config, path, backend, trust_code)
        return ExportedDetector(open_runtime(path, torch.get_num_threads(), backend, trust_code), str(path))


def detector_of(model: LoadedModel) -> CLRerNet | ExportedDetector:
    """Return the detector of a model: itself, or the one inside LaneLM."""
    if not isinstance(model, LaneLMDetectorBase):
        return model
    from clrernetlm.deploy.runtimes.exported_lanelm import ExportedLaneLM

    return model.exported if isinstance(model, ExportedLaneLM) else model.detector


def device_of(model: LoadedModel) -> torch.device:
    """Return the device of a model's results."""
    detector = detector_of(model)
    return detector.device if isinstance(detector, ExportedDetector) else next(detector.parameters()).device


def exported_suffix(checkpoint: PathLike) -> str | None:
    """Return the suffix of an exported file, or of the files in an exported folder; None for weights."""
    if checkpoint == RANDOM:
        return None
    found, named = exported_file(checkpoint), Path(checkpoint).suffix
    return found.suffix if found else named if named in EXPORTED_SUFFIXES else None
