"""What an exported file says about itself: one JSON text under the key `clrernetlm`, in every format.

`format` (1), `clrernetlm_version`, `model_class`, `part` (detector, look, prefill or step), `precision`, `batch` (null:
any), `viewport` (left, top, right, bottom as fractions of a frame, width and height of the network input in pixels),
`decode` (confidence threshold, NMS threshold in network pixels, extend_bottom, max_lanes) and `config`, all settings.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clrernetlm import __version__
from clrernetlm.config import Config, from_dict, to_dict
from clrernetlm.errors import UserError
from clrernetlm.files import EXPORTED, PathLike

KEY = "clrernetlm"
FORMAT = 1
DETECTOR = "detector"
ONNX, OPENVINO, TORCH = EXPORTED
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


@dataclass(frozen=True)
class About:
    """Which model a file holds, and everything needed to use it."""

    part: str
    model_class: str
    precision: str
    batch: int | None  # images at a time; None: any number
    config: Config
    version: str = __version__

    def text(self) -> str:
        """The JSON text that goes into the file."""
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


def parse_about(text: str | None, path: PathLike) -> About:
    """The inverse of `About.text`; raises UserError, naming the file, for a text that is missing or of another kind."""
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
            f"{path}: exported in format {tree.get('format')}, this version reads {FORMAT}; update clrernetlm"
        )
    batch, precision = tree.get("batch"), tree.get("precision")
    if not (batch is None or (type(batch) is int and batch > 0)):
        raise UserError(f"{path}: metadata.{KEY}.batch: {batch!r} is no number of images; export the model again")
    if precision not in PRECISIONS:
        raise UserError(f"{path}: metadata.{KEY}.precision: {precision!r} is unknown; export the model again")
    return About(
        part=str(tree.get("part")),
        model_class=str(tree.get("model_class")),
        precision=precision,
        batch=batch,
        config=from_dict(tree["config"], str(path)),
        version=str(tree.get("clrernetlm_version")),
    )


def read_about(path: PathLike) -> About:
    """What an exported file says about itself, without loading its weights into a runtime. Raises UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such exported model; check the path")
    reader = {ONNX: _onnx_text, OPENVINO: _openvino_text, TORCH: _torch_text}.get(path.suffix)
    if reader is None:
        raise UserError(f"{path}: not an exported model; use a file that ends in {', '.join(EXPORTED)}")
    try:
        text = reader(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file") from None
    return parse_about(text, path)


def broken(path: PathLike, kind: str) -> UserError:
    """The error for a file that its runtime cannot read."""
    return UserError(f"{path}: not {kind}, or cut short; export the model again")


def _onnx_text(path: Path) -> str | None:
    onnx = needed("onnx")
    try:
        model = onnx.load(path, load_external_data=False)
    except OSError:
        raise
    except Exception:  # whatever bytes can make protobuf raise
        raise broken(path, "an ONNX model") from None
    return {entry.key: entry.value for entry in model.metadata_props}.get(KEY)


def _openvino_text(path: Path) -> str | None:
    try:
        found = ElementTree.parse(path).getroot().find(f"rt_info/{KEY}")
    except (ElementTree.ParseError, UnicodeDecodeError):
        raise broken(path, "an OpenVINO model") from None
    return None if found is None else found.get("value")


def _torch_text(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"extra/{KEY}")]
            return archive.read(names[0]).decode() if names else None
    except (zipfile.BadZipFile, UnicodeDecodeError):
        raise broken(path, "a torch.export program") from None


def needed(module: str) -> Any:
    """A module of the extra `export`; raises UserError that says how to get it."""
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError:
        raise UserError(f"{module}: not installed; pip install 'clrernetlm[export]'") from None
