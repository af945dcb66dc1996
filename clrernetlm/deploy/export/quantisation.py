"""Quantises detectors after training: convolutions on 8-bit integers, scaled to the values of a few hundred images."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from clrernetlm.core.errors import UserError
from clrernetlm.core.image_list import list_rows
from clrernetlm.core.images import read_image
from clrernetlm.core.sources import IMAGE_SUFFIXES
from clrernetlm.core.viewport import Viewport
from clrernetlm.deploy.export.openvino_file import pyramid_ports
from clrernetlm.deploy.graph_names import IMAGES
from clrernetlm.weights.exported_metadata import import_extra

MAX_IMAGES = 300  # to calibrate on; more change nothing


def calibration_inputs(source: str, viewport: Viewport) -> list[dict[str, Any]]:
    """Read images of a folder or list, evenly spread, as inputs of the detector's graph, one image each.

    A list has one image per line, its first field, relative to the list or to the folder above it, as in CULane. Raises
    UserError when there is none, and for one that is missing or broken.
    """
    paths = list(_paths(Path(source)))
    if not paths:
        raise UserError(f"{source}: no images to calibrate on; name a folder of images or a list of their paths")
    chosen = [paths[i * len(paths) // min(MAX_IMAGES, len(paths))] for i in range(min(MAX_IMAGES, len(paths)))]
    return [{IMAGES: viewport.apply(read_image(str(path)))[None]} for path in chosen]


def _paths(source: Path) -> Iterator[Path]:
    if source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
        yield from sorted(path for path in found if not path.name.startswith("."))
        return
    if not source.is_file():
        raise UserError(f"calibration: {source} is not a folder or a list of images; check the path")
    for number, row in list_rows(source):
        yield _find(source, os.fsdecode(row[0]), number)


def _find(source: Path, name: str, number: int) -> Path:
    relative = name.lstrip("/")
    for path in (Path(name), source.parent / relative, source.parent.parent / relative):
        with suppress(OSError):  # a name longer than the system takes
            if path.is_file():
                return path
    raise UserError(f"{source}, line {number}: {name} is neither beside the list nor in the folder above it")


def quantise(model: Any, inputs: Sequence[dict[str, Any]]) -> Any:
    """Quantise the convolutions of a detector, an `openvino.Model`, to 8 bits; returns the new model.

    `inputs`: images to calibrate on. The head's other operations keep their precision: they compute positions, where a
    step of 1/255 of the range is several pixels.
    """
    nncf = import_extra("nncf")
    nncf.set_log_level(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset(list(inputs)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(inputs),
            ignored_scope=nncf.IgnoredScope(names=exact_operations(model), validate=False),
        )


def exact_operations(model: Any) -> list[str]:
    """List the operations that must not be quantised: all behind the pyramid, except convolutions."""
    needed_for_pyramid: set[str] = set()
    left = [port.get_node() for port in pyramid_ports(model)]
    while left:
        operation = left.pop()
        if operation.get_friendly_name() not in needed_for_pyramid:
            needed_for_pyramid.add(operation.get_friendly_name())
            left += [port.get_source_output().get_node() for port in operation.inputs()]
    others = (operation for operation in model.get_ops() if operation.get_type_name() != "Convolution")
    return sorted({operation.get_friendly_name() for operation in others} - needed_for_pyramid)
