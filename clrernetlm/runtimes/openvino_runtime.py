"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clrernetlm.runtimes.about import About, broken, needed
from clrernetlm.runtimes.base import Array, Runtime

# Left to itself OpenVINO computes in bf16 wherever the processor can. What was exported as fp32 stays fp32.
HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16", "int8": "f32"}
KEPT_SHAPES = 2  # compiled graphs that are kept: a whole batch, and the last, smaller one


class OpenvinoRuntime(Runtime):
    """An .xml (or .onnx) file in OpenVINO, compiled for every batch size it meets.

    Compiling for the sizes at hand is faster than a graph of free sizes. Raises UserError for a file it cannot read.
    """

    def __init__(self, path: Path, about: About, threads: int | None = None) -> None:
        openvino = needed("openvino")
        self._core = openvino.Core()
        try:
            self._model = self._core.read_model(path)
        except RuntimeError:
            raise broken(path, "an OpenVINO model") from None
        self.name = "openvino"
        self.about = about
        self.inputs = tuple(port.any_name for port in self._model.inputs)
        self.outputs = tuple(port.any_name for port in self._model.outputs)
        hint = HINTS[about.precision]
        if hint == "f16" and "FP16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            hint = "f32"  # else OpenVINO turns to bf16, which is less exact
        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._requests: dict[tuple[Any, ...], Any] = {}

    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        shapes = tuple(inputs[name].shape for name in self.inputs)
        request = self._requests.get(shapes)
        if request is None:
            model = self._model.clone()
            if model.is_dynamic():
                model.reshape(dict(zip(self.inputs, map(list, shapes), strict=True)))
            request = self._core.compile_model(model, "CPU", self._settings).create_infer_request()
            if len(self._requests) == KEPT_SHAPES:
                del self._requests[next(iter(self._requests))]
            self._requests[shapes] = request
        results = request.infer(dict(inputs))
        return [results[index].copy() for index in range(len(self.outputs))]
