"""Opens exported files in their runtimes."""

from __future__ import annotations

from pathlib import Path

from clrernetlm.core.argument_checks import check_arguments
from clrernetlm.core.files import PathLike
from clrernetlm.deploy.runtimes.base import Backend, Runtime
from clrernetlm.weights.exported_metadata import ONNX, OPENVINO, read_metadata

SUFFIX_OF: dict[Backend, str] = {"onnxruntime": ONNX, "openvino": OPENVINO, "torch": ".pt2"}


@check_arguments
def open_runtime(
    path: PathLike, threads: int | None = None, backend: Backend | None = None, trust_code: bool = False
) -> Runtime:
    """Open an exported file in its runtime, on the CPU.

    The suffix chooses the runtime, unless `backend` does: OpenVINO also runs .onnx files. `threads`: None leaves it to
    the runtime. `trust_code` allows code in the file to run: a .pt2 can contain some, and is refused without it. Raises
    UserError for a refused file, for one that is missing, broken or not exported by clrernetlm, and for a runtime that
    is not installed.
    """
    path = Path(path)
    metadata = read_metadata(path)
    if path.suffix == OPENVINO or (path.suffix == ONNX and backend == "openvino"):
        from clrernetlm.deploy.runtimes.openvino_runtime import OpenvinoRuntime

        return OpenvinoRuntime(path, metadata, threads)
    if path.suffix == ONNX:
        from clrernetlm.deploy.runtimes.onnx_runtime import OnnxRuntime

        return OnnxRuntime(path, metadata, threads)
    from clrernetlm.deploy.runtimes.torch_runtime import TorchRuntime

    return TorchRuntime(path, metadata, trust_code)
