"""Runs ONNX files in ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clrernetlm.deploy.runtimes.base import Array, Runtime
from clrernetlm.weights.exported_metadata import ModelMetadata, import_extra, load_onnx, unreadable_error
from clrernetlm.weights.graph_limits import check_onnx


class OnnxRuntime(Runtime):
    """Runs an .onnx file in ONNX Runtime. Raises UserError for one that cannot be loaded or needs too much memory."""

    def __init__(self, path: Path, metadata: ModelMetadata, threads: int | None = None) -> None:
        onnxruntime = import_extra("onnxruntime")
        check_onnx(path, load_onnx(path))  # loading a graph already computes its constant parts
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that spin while they wait slow down threads that compute on the same core.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception:  # its errors have no common class
            raise unreadable_error(path, "an ONNX model that ONNX Runtime can load") from None
        self.name = "onnxruntime"
        self.path = path
        self.metadata = metadata
        self.inputs = tuple(entry.name for entry in self._session.get_inputs())
        self.outputs = tuple(entry.name for entry in self._session.get_outputs())

    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        return list(self._session.run(list(self.outputs), dict(inputs)))
