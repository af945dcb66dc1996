"""Bounds the size and depth of nested containers before any code walks over all of their values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

CONTAINERS = (dict, list, tuple, set, frozenset)


class SizeLimitError(ValueError):
    """A value with too many values or levels inside, or one that contains itself."""


def check_nesting(value: Any, most: int, depth: int) -> None:
    """Raise SizeLimitError for more than `most` values, counted in every place, or more than `depth` levels.

    A few hundred bytes can say "ten times the list before" twenty times over, which no walk over the values would ever
    finish. This check takes one step for every different container, without recursion.
    """
    counts: dict[int, int] = {}  # of finished containers
    unfinished: set[int] = set()
    todo: list[tuple[Any, Iterator[Any], int]] = []

    def enter(container: Any) -> None:
        if id(container) in unfinished or len(todo) >= depth:
            raise SizeLimitError(f"a value contains itself, or is inside more than {depth} others")
        unfinished.add(id(container))
        todo.append((container, iter(container.values() if isinstance(container, dict) else container), 1))

    if isinstance(value, CONTAINERS):
        enter(value)
    while todo:
        container, items, count = todo.pop()
        for item in items:
            known = 1 if not isinstance(item, CONTAINERS) else counts.get(id(item))
            if known is None:
                todo.append((container, items, count))
                enter(item)
                break
            count += known
            if count > most:
                raise SizeLimitError(f"more than {most} values")
        else:
            unfinished.discard(id(container))
            counts[id(container)] = count
            if todo:
                outer, rest, before = todo.pop()
                todo.append((outer, rest, before + count))
