"""Runs OpenVINO and ONNX files in OpenVINO on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from clrernetlm.deploy.export.openvino_file import pyramid_ports
from clrernetlm.deploy.graph_names import LEVELS
from clrernetlm.deploy.runtimes.base import Array, Runtime
from clrernetlm.weights.exported_metadata import (
    DETECTOR_PART,
    ONNX,
    ModelMetadata,
    import_extra,
    load_onnx,
    unreadable_error,
)
from clrernetlm.weights.graph_limits import check_onnx, check_openvino

# By default OpenVINO computes in bf16 wherever the processor can. A file exported as fp32 stays fp32. Between its
# 8-bit convolutions an int8 file may use bf16, which is more exact than they are.
PRECISION_HINTS = {"fp32": ("f32",), "fp16": ("f16", "f32"), "bf16": ("bf16",), "int8": ("bf16", "f32")}
CAPABILITY = {"f16": "FP16", "bf16": "BF16"}
KEPT_SHAPES = 2  # compiled graphs: for a full batch, and for the last, smaller one; of the fovea for 4 lanes, and 1


class OpenvinoRuntime(Runtime):
    """Runs an .xml (or .onnx) file in OpenVINO, compiled for each batch size when it first occurs.

    A graph compiled for fixed sizes is faster than one of free sizes. A detector in less than fp32 computes its
    backbone and pyramid in that precision, and its head, whose positions would move by pixels, in fp32. Raises
    UserError for a file that OpenVINO cannot read.
    """

    def __init__(self, path: Path, metadata: ModelMetadata, threads: int | None = None) -> None:
        openvino = import_extra("openvino")
        if path.suffix == ONNX:
            check_onnx(path, load_onnx(path))
        self._core = openvino.Core()
        try:
            model = self._core.read_model(path)
            self.inputs = tuple(port.any_name for port in model.inputs)  # fails where a port has no name
            self.outputs = tuple(port.any_name for port in model.outputs)
        except (RuntimeError, UnicodeDecodeError):  # the latter for names that are not UTF-8
            raise unreadable_error(path, "an OpenVINO model") from None
        self.name = "openvino"
        self.path = path
        self.metadata = metadata
        capabilities = self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hints = PRECISION_HINTS[metadata.precision]
        hint = next((name for name in hints if CAPABILITY.get(name, "FP32") in capabilities), hints[-1])
        self._settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._model = model
        self._hints = (hint, "f32") if metadata.part == DETECTOR_PART and hint != "f32" else (hint,)
        self._requests: dict[tuple[Any, ...], list[Any]] = {}
        self._lock = threading.Lock()  # a request can run once at a time

    def compute(self, inputs: Mapping[str, Array]) -> list[Array]:
        shapes = tuple(inputs[name].shape for name in self.inputs)
        with self._lock:
            if shapes not in self._requests:
                if len(self._requests) == KEPT_SHAPES:
                    del self._requests[next(iter(self._requests))]
                self._requests[shapes] = self._compile(dict(inputs))
            values = dict(inputs)
            for request in self._requests[shapes]:
                needed = {port.any_name for port in request.model_inputs}
                request.infer({name: value for name, value in values.items() if name in needed}, share_inputs=True)
                values |= {port.any_name: request.get_tensor(port).data for port in request.model_outputs}
            return [values[name].copy() for name in self.outputs]

    def _compile(self, inputs: dict[str, Array]) -> list[Any]:
        """Compile every part of the graph for inputs of these shapes; returns a request for each."""
        model = self._model.clone()
        if model.is_dynamic():
            model.reshape({name: list(inputs[name].shape) for name in self.inputs})
        check_openvino(self.path, model, sum(value.size for value in inputs.values()))
        parts = [model] if len(self._hints) == 1 else split_at_pyramid(model)
        requests = []
        for part, hint in zip(parts, self._hints, strict=False):
            settings = {**self._settings, "INFERENCE_PRECISION_HINT": hint}
            requests.append(self._core.compile_model(part, "CPU", settings).create_infer_request())
        return requests


def split_at_pyramid(model: Any) -> list[Any]:
    """Split a detector's graph of fixed sizes into one from pixels to the pyramid and one from there to the results.

    Changes the given graph. If the pyramid has lost its names, the graph stays whole.
    """
    openvino = import_extra("openvino")
    ports = pyramid_ports(model)
    if len(ports) < len(LEVELS):
        return [model]
    for (
        operation
    ) in model.get_ops():  # the head takes the number of images from the pixels, which are no input of it now
        if operation.get_type_name() == "ShapeOf":
            size = openvino.opset8.constant(list(operation.input_value(0).get_shape()), operation.get_element_type())
            for target in operation.output(0).get_target_inputs():
                target.replace_source_output(size.output(0))
    results, parameters = list(model.get_results()), []
    consumers = [list(port.get_target_inputs()) for port in ports]
    pyramid = openvino.Model([openvino.opset8.result(port) for port in ports], model.get_parameters(), "pyramid")
    for name, port, targets in zip(LEVELS, ports, consumers, strict=True):
        parameter = openvino.opset8.parameter(port.get_partial_shape(), port.get_element_type())
        parameter.output(0).set_names({name})
        parameters.append(parameter)
        for target in targets:
            target.replace_source_output(parameter.output(0))
    return [pyramid, openvino.Model(results, parameters, "head")]
