"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clrernetlm.deploy.runtimes.base import Array, Runtime
from clrernetlm.weights.exported_metadata import ModelMetadata, broken, import_extra, load_onnx
from clrernetlm.weights.graph_limits import check_onnx


class OnnxRuntime(Runtime):
    """An .onnx file in ONNX Runtime. Raises UserError for one that it cannot load, or that asks for too much memory."""

    def __init__(self, path: Path, metadata: ModelMetadata, threads: int | None = None) -> None:
        onnxruntime = import_extra("onnxruntime")
        check_onnx(path, load_onnx(path))  # when it loads a graph ONNX Runtime computes what depends on no input
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that wait by spinning take the core from those that work.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception:  # its errors share no class
            raise broken(path, "an ONNX model that ONNX Runtime can load") from None
        self.name = "onnxruntime"
        self.path = path
        self.metadata = metadata
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(self._session.run(list(self.outputs), dict(inputs)))
