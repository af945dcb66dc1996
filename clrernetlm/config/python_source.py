"""Writes a Config as the source of a config file."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from clrernetlm.config.schema import Config
from clrernetlm.core.overwrite_rules import begins_with
from clrernetlm.core.viewport import Viewport

BEGINNING = '"""Written by `clrernetlm config`."""'
is_source = begins_with(BEGINNING)


def to_source(config: Config) -> str:
    """Make the Python source of a config file with every setting."""
    names = sorted(_class_names(config) - {Viewport.__name__})
    imports = "".join(f"    {name},\n" for name in names)
    return (
        f"{BEGINNING}\n\n"
        f"from clrernetlm.config import (\n{imports})\n"
        f"from clrernetlm.core.viewport import {Viewport.__name__}\n\n"
        f"config = {_expression(config, '')}\n"
    )


def _expression(value: Any, indent: str) -> str:
    if not is_dataclass(value):
        return repr(value)
    inner = indent + "    "
    lines = [f"{inner}{item.name}={_expression(getattr(value, item.name), inner)},\n" for item in fields(value)]
    return f"{type(value).__name__}(\n{''.join(lines)}{indent})"


def _class_names(value: Any) -> set[str]:
    if not is_dataclass(value):
        return set()
    return {type(value).__name__}.union(*(_class_names(getattr(value, item.name)) for item in fields(value)))
