"""Converts words of a command line to values of annotated types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin


def value_from_text(annotation: Any, words: Sequence[str]) -> Any:
    """Convert words to a value of `annotation`.

    `annotation`: int, float, str, bool, Path, a literal, a tuple of these, or one of them or None. One word makes one
    value; a tuple takes as many as it has items, with an ellipsis any number. Raises ValueError for words that are no
    such value.
    """
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        if list(words) == ["None"]:
            return None
        return value_from_text(without_none(annotation), words)
    if get_origin(annotation) is tuple:
        item_types = [arguments[0]] * len(words) if Ellipsis in arguments else arguments
        return tuple(value_from_text(item, [word]) for item, word in zip(item_types, words, strict=True))
    (word,) = words
    if get_origin(annotation) is Literal:
        by_text = {str(choice): choice for choice in arguments}
    elif annotation is bool:
        by_text = {"True": True, "False": False}
    elif annotation in (int, float, str, Path):
        return annotation(word)
    else:
        raise TypeError(f"{annotation} cannot be given as text")
    if word not in by_text:
        raise ValueError(f"{word} is not one of {', '.join(by_text)}")
    return by_text[word]


def without_none(annotation: Any) -> Any:
    """Return the type of a value that may also be None; other types as they are."""
    options = [option for option in get_args(annotation) if option is not NoneType]
    return options[0] if NoneType in get_args(annotation) and len(options) == 1 else annotation
