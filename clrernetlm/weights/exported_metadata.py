"""Reads and writes the metadata of exported files: one JSON text under the key `clrernetlm`, in every format.

`format` (1), `clrernetlm_version`, `model_class`, `part` (detector, look, prefill, step or fovea), `precision`, `batch`
(null: any), `viewport` (left, top, right, bottom as fractions of a frame, width and height of the network input in
pixels), `decode` (confidence threshold, NMS threshold in network pixels, extend_bottom, max_lanes) and `config`, all
settings.

Reading it runs no code: the text is extracted from the file without the loader of the file's runtime.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.parsers import expat

from clrernetlm.config import Config, to_dict
from clrernetlm.config.stored_settings import config_of_file
from clrernetlm.core.argument_checks import short_repr
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import EXPORTED_SUFFIXES, PathLike
from clrernetlm.core.version import __version__
from clrernetlm.weights.graph_limits import ONNX_OPERATORS, OPENVINO_OPERATORS, require_known

KEY = "clrernetlm"  # of the metadata, in every format
FORMAT = 1
DETECTOR_PART = "detector"
ONNX, OPENVINO, TORCH = EXPORTED_SUFFIXES
LOOPS = ("Loop", "Scan", "TensorIterator")  # in ONNX and OpenVINO
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
MAX_TEXT = 1 << 20  # bytes of the JSON text; usual: 4 kB
MAX_BATCH = 10_000  # images at a time
MAX_GRAPH = 1 << 26  # bytes of an OpenVINO graph without its weights; usual: 1 MB
MAX_ELEMENTS, MAX_DEPTH = 500_000, 100  # of an OpenVINO graph; a detector has about 10,000, 8 deep


@dataclass(frozen=True)
class ModelMetadata:
    """Which model a file holds, and everything needed to use it."""

    part: str
    model_class: str
    precision: str
    batch: int | None  # images at a time; None: any number
    config: Config
    version: str = __version__

    def text(self) -> str:
        """Format the metadata as the JSON text that is stored in the file."""
        model = self.config.model
        decode = asdict(model.decode) | {"max_lanes": model.max_lanes}
        return json.dumps(
            {
                "format": FORMAT,
                "clrernetlm_version": self.version,
                "model_class": self.model_class,
                "part": self.part,
                "precision": self.precision,
                "batch": self.batch,
                "viewport": asdict(model.viewport),
                "decode": decode,
                "config": to_dict(self.config),
            },
            sort_keys=True,
        )


def parse_metadata(text: str | None, path: PathLike) -> ModelMetadata:
    """Parse the text of `ModelMetadata.text`; raises UserError when it is missing or of another kind."""
    if text and len(text) > MAX_TEXT:
        raise UserError(
            f"{path}: metadata.{KEY}: {len(text)} characters, {MAX_TEXT} are allowed; export the model again"
        )
    if not text:
        raise UserError(f"{path}: not exported by clrernetlm, or by an older tool; make it with `clrernetlm export`")
    try:
        tree: Any = json.loads(text)
    except (ValueError, RecursionError):
        tree = None
    if not isinstance(tree, Mapping) or not isinstance(tree.get("config"), dict):
        raise UserError(f"{path}: metadata.{KEY}: not readable; export the model again")
    if tree.get("format") != FORMAT:
        raise UserError(
            f"{path}: exported in format {short_repr(tree.get('format'))}, this version reads {FORMAT}; "
            "update clrernetlm"
        )
    batch, precision = tree.get("batch"), tree.get("precision")
    if not (batch is None or (type(batch) is int and 0 < batch <= MAX_BATCH)):
        raise UserError(
            f"{path}: metadata.{KEY}.batch: {short_repr(batch)} is no number of images; export the model again"
        )
    if precision not in PRECISIONS:
        raise UserError(f"{path}: metadata.{KEY}.precision: {short_repr(precision)} is unknown; export the model again")
    return ModelMetadata(
        part=str(tree.get("part")),
        model_class=str(tree.get("model_class")),
        precision=precision,
        batch=batch,
        config=config_of_file(tree["config"], path),
        version=str(tree.get("clrernetlm_version")),
    )


def read_metadata(path: PathLike) -> ModelMetadata:
    """Read the metadata of an exported file, without loading its weights into a runtime.

    Raises UserError for a file that is missing or broken, and for a graph with weights in other files or with operators
    that no exported model has.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such exported model; check the path")
    reader = {ONNX: _onnx_text, OPENVINO: _openvino_text, TORCH: _torch_text}.get(path.suffix)
    if reader is None:
        raise UserError(f"{path}: not an exported model; use a file that ends in {', '.join(EXPORTED_SUFFIXES)}")
    try:
        text = reader(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    return parse_metadata(text, path)


def unreadable_error(path: PathLike, kind: str) -> UserError:
    """Make the error for a file that its runtime cannot read; `kind`: the kind of file that it should be."""
    return UserError(f"{path}: not {kind}, or cut short; export the model again")


def load_onnx(path: Path) -> Any:
    """Load the `onnx.ModelProto` of a file.

    Raises UserError for broken files, weights in other files, loops, and operators that no exported model has.
    """
    onnx = import_extra("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception:  # broken bytes can make protobuf raise anything
        raise unreadable_error(path, "an ONNX model") from None
    if any(node.op_type in LOOPS for node in _nodes(model.graph)):
        raise UserError(f"{path}: has loops, which may never end and no exported model needs; export the model again")
    if (
        model.functions
        or model.training_info
        or any(node.domain not in ("", "ai.onnx") for node in _nodes(model.graph))
    ):
        raise UserError(f"{path}: has operators that are not ONNX's own; export the model again")
    if any(
        tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data for tensor in _tensors(model.graph)
    ):
        raise UserError(f"{path}: takes weights from other files; export the model again, into one file")
    require_known(path, [node.op_type for node in _nodes(model.graph)], ONNX_OPERATORS)
    return model


def _onnx_text(path: Path) -> str | None:
    model = load_onnx(path)
    return {entry.key: entry.value for entry in model.metadata_props}.get(KEY)


def _nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of an ONNX graph and of the graphs inside its control flow."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)


def _tensors(graph: Any) -> Iterator[Any]:
    """Yield constant tensors of an ONNX graph and of graphs inside it: initialisers, attributes, sparse tensors."""
    yield from graph.initializer
    sparse = [*graph.sparse_initializer]
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            sparse += [attribute.sparse_tensor, *attribute.sparse_tensors]
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
    for tensor in sparse:
        yield from (tensor.values, tensor.indices)


def _openvino_text(path: Path) -> str | None:
    """Read rt_info/clrernetlm of a graph's XML without building its tree; entities, which can expand, are refused."""
    above: list[str] = []
    found: list[str | None] = []
    kinds: list[str] = []
    elements = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal elements
        elements += 1
        above.append(name)
        if elements > MAX_ELEMENTS or len(above) > MAX_DEPTH:
            raise ValueError("too many elements")
        if name == "layer":
            kind, own = attributes.get("type", ""), attributes.get("version", "").startswith("opset")
            kinds.append(kind if own or kind in LOOPS else f"{kind} of an extension")
        if len(above) == 3 and above[1:] == ["rt_info", KEY]:
            found.append(attributes.get("value"))

    def refuse(*_: object) -> None:
        raise ValueError("an entity")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, lambda name: above.pop()
    parser.EntityDeclHandler = refuse
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_GRAPH + 1)
        if len(text) > MAX_GRAPH:
            raise unreadable_error(path, "an OpenVINO model")
        parser.Parse(
            text, True
        )  # at once: in pieces, a long attribute is parsed again with every piece, which takes minutes
    except (expat.ExpatError, ValueError, LookupError):
        raise unreadable_error(path, "an OpenVINO model") from None
    if any(kind in LOOPS for kind in kinds):
        raise UserError(f"{path}: has loops, which may never end and no exported model needs; export the model again")
    require_known(path, kinds, OPENVINO_OPERATORS)
    return found[0] if found else None


def _torch_text(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"extra/{KEY}")]
            if not names:
                return None
            with archive.open(names[0]) as text:
                return text.read(MAX_TEXT + 1).decode()
    except OSError:
        raise
    except Exception:  # zipfile raises half a dozen kinds for damaged, encrypted and unknown members
        raise unreadable_error(path, "a torch.export program") from None


def import_extra(module: str) -> Any:
    """Import a module of the extra `export`. Raises UserError that says how to install it."""
    from importlib import import_module

    if module.partition(".")[0] == "openvino":
        # Its tools would send usage data to their maker when imported, and write to ~/intel; without this module they
        # do not.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module(module)
    except ImportError:
        raise UserError(f"{module}: not installed; pip install 'clrernetlm[export]'") from None
