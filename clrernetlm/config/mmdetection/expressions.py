"""Evaluates the expressions of MMDetection config files from their syntax trees, without running them.

Supported are literals, `dict(...)`, `{**x}`, names assigned above, constant arithmetic, indexing, `_base_.x` and
`{{_base_.x}}`. Everything else becomes a `NotUnderstood`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clrernetlm.core.nesting_limits import CONTAINERS, SizeLimitError

OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
# Limits for hostile files, which could double a list in every line. CLRerNet's files have 5 kB and 300 values.
MAX_ITEMS = 10_000  # longest list or text that arithmetic, spreading or filling in may build
MAX_BUILT = 1_000_000  # items and characters that spreading and arithmetic of a file build in all
MAX_POWER = 64
QUOTED_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")


@dataclass(frozen=True)
class NotUnderstood:
    """Placeholder for a value that is not known without running the file."""

    reason: str


class _Unknown(Exception):
    """Raised inside an expression; becomes a NotUnderstood."""


class Evaluator:
    """Evaluates the expressions of one file.

    `names`: {name: value} assigned so far; `base_values`: those of the `_base_` files; `referenced` collects the names
    that expressions refer to. `file_name`: for messages about a `_base_` file; empty
    for the main file.
    """

    def __init__(self, file_name: str = "") -> None:
        self.file_name = file_name
        self.names: dict[str, Any] = {}
        self.base_values: dict[str, Any] = {}
        self.referenced: set[str] = set()
        self.built = 0  # items and characters, for `MAX_BUILT`

    def value(self, node: ast.expr) -> Any:
        """Evaluate an expression; `NotUnderstood` if that fails. Raises SizeLimitError for too large results."""
        try:
            return self._evaluate(node)
        except _Unknown as unknown:
            return NotUnderstood(f"{self.position(node)}: {unknown}")
        except SizeLimitError:
            raise
        except (ArithmeticError, TypeError, ValueError, KeyError, IndexError) as error:
            return NotUnderstood(f"{self.position(node)}: `{source_of(node)}` fails ({type(error).__name__})")

    def _evaluate(self, node: ast.expr) -> Any:
        """Evaluate an expression; parts of lists and dicts that are not understood become NotUnderstood."""
        if isinstance(node, ast.Constant):
            return self._fill_in(node.value) if isinstance(node.value, str) else node.value
        if isinstance(node, ast.List):
            return self._items(node.elts)
        if isinstance(node, ast.Tuple):
            return tuple(self._items(node.elts))
        if isinstance(node, ast.Dict):
            return self._dict(list(zip(node.keys, node.values, strict=True)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict":
            items: list[tuple[ast.expr | None, ast.expr]] = [(None, argument) for argument in node.args]
            items += [(ast.Constant(item.arg) if item.arg else None, item.value) for item in node.keywords]
            return self._dict(items)
        if isinstance(node, ast.Name):
            return self._name(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd | ast.Not):
            value = self._understood(node.operand)
            return -value if isinstance(node.op, ast.USub) else +value if isinstance(node.op, ast.UAdd) else not value
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
            return self._counted(_arithmetic(node.op, self._understood(node.left), self._understood(node.right)))
        if isinstance(node, ast.Subscript) and not isinstance(node.slice, ast.Slice):
            return self._understood(node.value)[self._key(node.slice)]
        if isinstance(node, ast.Attribute):
            return self._base_value(_dotted(node))
        if isinstance(node, ast.Set) and len(node.elts) == 1 and isinstance(node.elts[0], ast.Set):
            (inner,) = node.elts[0].elts  # {{_base_.x}} without quotes is a set of a set
            return self._base_value(_dotted(inner))
        raise _Unknown(f"`{source_of(node)}` is computed; write the value instead")

    def _understood(self, node: ast.expr) -> Any:
        value = self._evaluate(node)
        if isinstance(value, NotUnderstood):
            raise _Unknown(f"`{source_of(node)}` is not known")
        return value

    def _counted(self, built: Any) -> Any:
        """Return `built` after counting its items; raises SizeLimitError when the file has built too many."""
        self.built += len(built) if isinstance(built, str | list | tuple | dict) else 0
        if self.built > MAX_BUILT:
            raise SizeLimitError(f"more than {MAX_BUILT} items and characters built")
        return built

    def _key(self, node: ast.expr) -> Any:
        """Evaluate a key or an index, which must be plain: hashing deeply nested tuples can take very long."""
        value = self._understood(node)
        if not is_plain(value):
            raise _Unknown(f"`{source_of(node)}` is no plain key")
        return value

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                spread = self._understood(node.value)
                if not isinstance(spread, list | tuple) or len(items) + len(spread) > MAX_ITEMS:
                    raise _Unknown(f"`{source_of(node)}` spreads something too long, or no list")
                items += self._counted(spread)
            else:
                items.append(self.value(node))
        return items

    def _dict(self, items: list[tuple[ast.expr | None, ast.expr]]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in items:
            if key is None:
                spread = self._understood(value)
                if not isinstance(spread, dict):
                    raise _Unknown(f"`{source_of(value)}` is not a dict")
                result |= self._counted(spread)
                if len(result) > MAX_ITEMS:
                    raise _Unknown(f"`{source_of(value)}` makes the dict too large")
            else:
                result[self._key(key)] = self.value(value)
        return result

    def _name(self, name: str) -> Any:
        if name not in self.names:
            raise _Unknown(f"the name {name} is not defined above")
        self.referenced.add(name)
        return self.names[name]

    def _base_value(self, dotted: str) -> Any:
        start, _, rest = dotted.partition(".")
        if start != "_base_" or not rest:
            raise _Unknown(f"`{dotted or 'this expression'}` is computed; write the value instead")
        value: Any = self.base_values
        for part in rest.split("."):
            if not isinstance(value, dict) or part not in value:
                raise _Unknown(f"no base file defines {rest}")
            value = value[part]
        self.referenced.add(rest.partition(".")[0])
        return value

    def _fill_in(self, text: str) -> Any:
        whole = QUOTED_BASE.fullmatch(text.strip())
        if whole:
            return self._base_value(f"_base_.{whole[1]}")
        parts = QUOTED_BASE.split(text)  # text, name, text, name, ..., text
        for i in range(1, len(parts), 2):
            value = self._base_value(f"_base_.{parts[i]}")
            if isinstance(value, CONTAINERS):
                raise _Unknown(f"{parts[i]} is not a text or number")
            parts[i] = str(value)
            if sum(map(len, parts[: i + 1])) > MAX_ITEMS:
                raise _Unknown("filling in builds something too long")
        return "".join(parts)

    def position(self, node: ast.AST) -> str:
        """Describe the line of a node, in a `_base_` file with the file's name."""
        line = f"line {getattr(node, 'lineno', '?')}"
        return f"{self.file_name}, {line}" if self.file_name else line


def _arithmetic(kind: ast.operator, left: Any, right: Any) -> Any:
    """Compute arithmetic of numbers, and join or repeat texts and lists, within the size limits."""
    numbers = isinstance(left, int | float) and isinstance(right, int | float)
    joined = isinstance(kind, ast.Add) and type(left) is type(right) and isinstance(left, str | list | tuple)
    repeated = isinstance(kind, ast.Mult) and isinstance(left, str | list | tuple) and isinstance(right, int)
    if not (numbers or joined or repeated):
        raise _Unknown("arithmetic on other things than numbers, texts and lists")
    if (joined and len(left) + len(right) > MAX_ITEMS) or (repeated and len(left) * right > MAX_ITEMS):
        raise _Unknown("arithmetic builds something too long")
    if numbers and ((isinstance(kind, ast.Pow) and abs(right) > MAX_POWER) or max(abs(left), abs(right)) > 1e100):
        raise _Unknown("arithmetic builds too large a number")
    return OPERATORS[type(kind)](left, right)


def is_plain(key: Any) -> bool:
    """Check whether a key of a dict is None, a text or a number."""
    return key is None or isinstance(key, str | int | float)


def _dotted(node: ast.AST) -> str:
    """Convert nested attributes to a dotted name such as `_base_.model.test_cfg`; empty for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


def source_of(node: ast.AST) -> str:
    """Return the source code of a node in one line of at most 50 characters."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 50 else text[:47] + "..."
