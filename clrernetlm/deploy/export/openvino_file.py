"""Writes graphs as OpenVINO files: NAME.xml and NAME.bin."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

from clrernetlm.core.errors import UserError
from clrernetlm.core.files import temporary_beside
from clrernetlm.deploy.graph_names import LEVELS
from clrernetlm.weights.exported_metadata import KEY, ModelMetadata, import_extra


def openvino_model(onnx_model: Any) -> Any:
    """Convert an `onnx.ModelProto` to an `openvino.Model` with the same names and folded constants."""
    openvino, passes = import_extra("openvino"), import_extra("openvino.passes")
    model = openvino.Core().read_model(io.BytesIO(onnx_model.SerializeToString()))
    # A weight times the scale of a norm becomes one constant: quantisation takes constant weights only.
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())
    manager.run_passes(model)
    return model


def write_openvino(model: Any, path: Path, metadata: ModelMetadata) -> None:
    """Write a model with its metadata; fp16 and int8 store weights that are not integers as float16.

    Both files are written beside `path` and then moved, the weights first. Raises UserError when they cannot be
    written.
    """
    openvino = import_extra("openvino")
    model.set_rt_info(metadata.text(), [KEY])
    half = metadata.precision in ("fp16", "int8")
    try:
        for target in (path, path.with_suffix(".bin")):
            if target.is_dir():  # noticed before the first of the two is replaced
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        with temporary_beside(path) as folder:
            folder.mkdir()
            draft = folder / path.name
            openvino.save_model(model, draft, compress_to_fp16=half)
            os.replace(draft.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(draft, path)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be written ({reason}); free space or check permissions") from None


def pyramid_ports(model: Any) -> list[Any]:
    """Find the outputs inside a detector's graph that are the pyramid; empty if they have lost their names."""
    ports = {name: port for operation in model.get_ops() for port in operation.outputs() for name in port.get_names()}
    return [ports[name] for name in LEVELS if name in ports]
