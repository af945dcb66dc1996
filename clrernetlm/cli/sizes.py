"""Sizes as words of the command line: `1640x590`."""

from __future__ import annotations

from typing import Annotated

from tyro.constructors import PrimitiveConstructorSpec


def parse_size(text: str) -> tuple[int, int]:
    """`1640x590` -> (1640, 590): width, height; raises ValueError."""
    width, separator, height = text.lower().partition("x")
    if not separator or min(int(width), int(height)) < 1:
        raise ValueError(f"{text} is not WIDTHxHEIGHT")
    return int(width), int(height)


_SIZE: PrimitiveConstructorSpec[tuple[int, int] | None] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="WxH",
    instance_from_str=lambda words: parse_size(words[0]),
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda size: ["none" if size is None else f"{size[0]}x{size[1]}"],
)

_SIZE_OR_AUTO: PrimitiveConstructorSpec[tuple[int, int] | None] = PrimitiveConstructorSpec(
    nargs=1,
    metavar="WxH|auto",
    instance_from_str=lambda words: None if words[0] == "auto" else parse_size(words[0]),
    is_instance=lambda value: value is None or isinstance(value, tuple),
    str_from_instance=lambda size: ["auto" if size is None else f"{size[0]}x{size[1]}"],
)

Size = Annotated[tuple[int, int], _SIZE]
SizeOrAuto = Annotated[tuple[int, int] | None, _SIZE_OR_AUTO]
OptionalSize = Annotated[tuple[int, int] | None, _SIZE]
