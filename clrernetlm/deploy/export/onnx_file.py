"""Writes graphs as ONNX files."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clrernetlm.core.files import replacing
from clrernetlm.deploy.export.detector_graph import Graph, program_of
from clrernetlm.weights.exported_metadata import KEY, ModelMetadata, import_extra
from clrernetlm.weights.safetensors_file import SMALL

OPSET = 20


def onnx_model(graph: Graph, hidden: Collection[str] = ()) -> Any:
    """Convert a graph to an `onnx.ModelProto` in fp32, with the names of its inputs and outputs.

    Outputs in `hidden` are removed from the outputs, but keep their names inside the graph.
    """
    import_extra("onnxscript")
    with quiet_exporter():
        exported = torch.onnx.export(
            program_of(graph),
            dynamo=True,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    visible = [output for output in model.graph.output if output.name not in hidden]
    del model.graph.output[:]
    model.graph.output.extend(visible)
    return model


def write_onnx(model: Any, path: Path, metadata: ModelMetadata) -> None:
    """Write a model with its metadata; fp16 halves the weights' size, and runtimes load them as float32."""
    onnx = import_extra("onnx")
    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    if metadata.precision == "fp16":
        narrow_weights(stored)
    del stored.metadata_props[:]
    stored.metadata_props.add(key=KEY, value=metadata.text())
    stored.producer_name, stored.producer_version = "clrernetlm", metadata.version
    with replacing(path) as temporary:
        temporary.write_bytes(stored.SerializeToString())


def narrow_weights(model: Any) -> None:
    """Store float32 weights of `SMALL` values or more as float16, with a cast to float32 behind each."""
    onnx = import_extra("onnx")
    casts = []
    for weight in model.graph.initializer:
        values = onnx.numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < SMALL:
            continue
        name = weight.name
        weight.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Silence the exporter's messages about optional packages and tracing."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
