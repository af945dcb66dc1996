"""Parses MMDetection config files to plain values from their syntax tree, without running them.

Supported are literals, `dict(...)`, `{**x}`, names assigned above, constant arithmetic, indexing, `_base_` files with
MMEngine's merging (including `_delete_`), `_base_.x` and `{{_base_.x}}`. Everything else becomes a `NotUnderstood`.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clrernetlm.core.errors import UserError
from clrernetlm.core.nesting_limits import CONTAINERS, SizeLimitError, check_nesting

# Top-level names by which such a file is recognised; configs of this project define `config` and import clrernetlm.
MMDETECTION_KEYS = {
    "model", "data", "dataset_type", "train_pipeline", "train_dataloader", "val_dataloader", "test_dataloader",
    "optim_wrapper", "optimizer", "param_scheduler", "lr_config", "train_cfg", "default_scope", "default_hooks",
    "custom_hooks", "custom_imports", "checkpoint_config", "log_config",
}  # fmt: skip

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
MAX_BYTES = 1 << 20  # of a file
MAX_STATEMENTS = 10_000  # of a file
MAX_FILES = 100  # base files of a config, counted every time one is read
MAX_VALUES = 100_000  # of all names of a file together
MAX_DEPTH = 50  # lists and dicts inside one another
MAX_ITEMS = 10_000  # longest list or text that arithmetic, spreading or filling in may build
MAX_BUILT = 1_000_000  # items and characters that spreading and arithmetic of a file build in all
MAX_POWER = 64
QUOTED_BASE = re.compile(r"\{\{\s*_base_\.([\w.]+)\s*\}\}")


@dataclass(frozen=True)
class NotUnderstood:
    """Placeholder for a value that is not known without running the file."""

    reason: str


@dataclass
class ParsedFile:
    """`values` {top-level name: value} with the bases merged in, the names that other values refer to, and `notes`
    (place, reason) on statements that were ignored."""

    values: dict[str, Any] = field(default_factory=dict)
    referenced: set[str] = field(default_factory=set)
    notes: list[tuple[str, str]] = field(default_factory=list)


class _Unknown(Exception):
    """Raised inside an expression; becomes a NotUnderstood."""


def is_mmdetection(path: Path) -> bool:
    """Check whether a file is an MMDetection config; a file that is not valid Python is none."""
    try:
        tree = ast.parse(_content(path))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    assigned = {name for statement in tree.body for name in _assigned_names(statement)}
    imported = {name.partition(".")[0] for statement in tree.body for name in _imported_modules(statement)}
    if "_base_" in assigned or "mmengine" in imported:
        return True
    return bool(assigned & MMDETECTION_KEYS) and "clrernetlm" not in imported


def _content(path: Path) -> bytes:
    """Read the bytes of a config. Raises OSError, and UserError for more than `MAX_BYTES`."""
    with open(path, "rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MB, which no config is; check the path")
    return content


def parse_file(path: Path, ancestors: tuple[Path, ...] = (), files: list[Path] | None = None) -> ParsedFile:
    """Values of a config and its `_base_` files (`ancestors`: the files that led here; `files`: all that were read).

    Raises UserError, with file and line, for invalid syntax, for `_base_` files that are missing, circular or ours, and
    for files that build more than a config can hold.
    """
    if path in ancestors:
        raise UserError(f"{path}: is its own _base_; break the circle")
    files = [] if files is None else files
    files.append(path)
    if len(files) > MAX_FILES:
        raise UserError(f"{files[0]}: builds on more than {MAX_FILES} files; write them into fewer")
    try:
        tree = ast.parse(_content(path), filename=str(path))
        if len(tree.body) > MAX_STATEMENTS:
            raise UserError(f"{path}: more than {MAX_STATEMENTS} statements, which no config has; check the path")
        return _Reader(path, ancestors, files).read(tree)
    except SizeLimitError as error:
        raise UserError(f"{path}: {error}; write it out") from None
    except SyntaxError as error:
        raise UserError(f"{path}, line {error.lineno}: not valid Python ({error.msg})") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise UserError(f"{path}: cannot be parsed ({type(error).__name__})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from None


def merge(base: Any, child: Any) -> Any:
    """Merge as MMEngine does: dicts key by key unless the child has `_delete_=True`; other values are replaced."""
    if not isinstance(child, dict):
        return child
    child = dict(child)
    if child.pop("_delete_", False) or not isinstance(base, dict):
        return {key: merge(None, value) for key, value in child.items()}
    merged = dict(base)
    for key, value in child.items():
        merged[key] = merge(base.get(key), value)
    return merged


class _Reader:
    """Evaluates one file's assignments in order."""

    def __init__(self, path: Path, ancestors: tuple[Path, ...], files: list[Path]) -> None:
        self.path = path
        self.ancestors = ancestors
        self.files = files
        self.names: dict[str, Any] = {}
        self.base = ParsedFile()
        self.parsed = ParsedFile()
        self.built = 0

    def read(self, tree: ast.Module) -> ParsedFile:
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "_base_" for target in statement.targets
            ):
                self._read_bases(statement)
        for statement in tree.body:
            self._statement(statement)
        check_nesting(self.names, MAX_VALUES, MAX_DEPTH)
        self.parsed.values = merge(self.base.values, self.names)
        self.parsed.referenced |= self.base.referenced
        self.parsed.notes = self.base.notes + self.parsed.notes
        return self.parsed

    def _read_bases(self, statement: ast.Assign) -> None:
        value = self._value(statement.value)
        files = [value] if isinstance(value, str) else value
        if not isinstance(files, list | tuple) or not all(isinstance(file, str) for file in files):
            raise UserError(f"{self.path}, line {statement.lineno}: _base_ is not a list of file names; write it out")
        for file in files:
            path = (self.path.parent / file).resolve()
            if "::" in file or not path.is_file():
                raise UserError(f"{self.path}, line {statement.lineno}: _base_ file {file} not found; copy it there")
            if not is_mmdetection(path) and "clrernetlm" in path.read_text("utf-8", errors="replace"):
                raise UserError(
                    f"{self.path}, line {statement.lineno}: _base_ file {file} is a config of clrernetlm, not of "
                    "MMDetection; build on it with load_config"
                )
            parsed = parse_file(path, (*self.ancestors, self.path), self.files)
            self.base.values = merge(self.base.values, parsed.values)
            self.base.referenced |= parsed.referenced
            self.base.notes += parsed.notes

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, self._value(node.value), node)
        elif isinstance(node, ast.AnnAssign) and node.value:
            self._assign(node.target, self._value(node.value), node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            expression = ast.copy_location(ast.BinOp(left, node.op, node.value), node)
            self._assign(node.target, self._value(expression), node)
        else:
            self._note(node, "is never run")

    def _assign(self, target: ast.expr, value: Any, node: ast.stmt) -> None:
        if isinstance(target, ast.Name):
            if target.id != "_base_":
                self.names[target.id] = value
            return
        if isinstance(target, ast.Tuple) and isinstance(value, list | tuple) and len(target.elts) == len(value):
            for part, item in zip(target.elts, value, strict=True):
                self._assign(part, item, node)
            return
        if isinstance(target, ast.Subscript):
            container, key = self._value(target.value), self._value(target.slice)
            in_list = isinstance(container, list) and type(key) is int and -len(container) <= key < len(container)
            if (isinstance(container, dict) and _is_plain(key)) or in_list:
                container[key] = value
                return
        self._note(node, "assigns to something that is not understood")

    def _value(self, node: ast.expr) -> Any:
        try:
            return self._evaluate(node)
        except _Unknown as unknown:
            return NotUnderstood(f"{self._place(node)}: {unknown}")
        except SizeLimitError:
            raise
        except (ArithmeticError, TypeError, ValueError, KeyError, IndexError) as error:
            return NotUnderstood(f"{self._place(node)}: `{_source(node)}` fails ({type(error).__name__})")

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
            items += [(ast.Constant(word.arg) if word.arg else None, word.value) for word in node.keywords]
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
        raise _Unknown(f"`{_source(node)}` is computed; write the value instead")

    def _understood(self, node: ast.expr) -> Any:
        value = self._evaluate(node)
        if isinstance(value, NotUnderstood):
            raise _Unknown(f"`{_source(node)}` is not known")
        return value

    def _counted(self, built: Any) -> Any:
        """Return `built` after counting its items; raises SizeLimitError when the file has built too many."""
        self.built += len(built) if isinstance(built, str | list | tuple | dict) else 0
        if self.built > MAX_BUILT:
            raise SizeLimitError(f"more than {MAX_BUILT} items and characters built")
        return built

    def _key(self, node: ast.expr) -> Any:
        """Evaluate a key or an index, which must be plain: hashing deeply nested tuples can take for ever."""
        value = self._understood(node)
        if not _is_plain(value):
            raise _Unknown(f"`{_source(node)}` is no plain key")
        return value

    def _items(self, nodes: list[ast.expr]) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                spread = self._understood(node.value)
                if not isinstance(spread, list | tuple) or len(items) + len(spread) > MAX_ITEMS:
                    raise _Unknown(f"`{_source(node)}` spreads something too long, or no list")
                items += self._counted(spread)
            else:
                items.append(self._value(node))
        return items

    def _dict(self, items: list[tuple[ast.expr | None, ast.expr]]) -> dict[Any, Any]:
        result: dict[Any, Any] = {}
        for key, value in items:
            if key is None:
                spread = self._understood(value)
                if not isinstance(spread, dict):
                    raise _Unknown(f"`{_source(value)}` is not a dict")
                result |= self._counted(spread)
                if len(result) > MAX_ITEMS:
                    raise _Unknown(f"`{_source(value)}` makes the dict too large")
            else:
                result[self._key(key)] = self._value(value)
        return result

    def _name(self, name: str) -> Any:
        if name not in self.names:
            raise _Unknown(f"the name {name} is not defined above")
        self.parsed.referenced.add(name)
        return self.names[name]

    def _base_value(self, dotted: str) -> Any:
        start, _, rest = dotted.partition(".")
        if start != "_base_" or not rest:
            raise _Unknown(f"`{dotted or 'this expression'}` is computed; write the value instead")
        value: Any = self.base.values
        for part in rest.split("."):
            if not isinstance(value, dict) or part not in value:
                raise _Unknown(f"no base file defines {rest}")
            value = value[part]
        self.parsed.referenced.add(rest.partition(".")[0])
        return value

    def _fill_in(self, text: str) -> Any:
        whole = QUOTED_BASE.fullmatch(text.strip())
        if whole:
            return self._base_value(f"_base_.{whole[1]}")
        parts = QUOTED_BASE.split(text)  # text, name, text, name, ..., text
        for place in range(1, len(parts), 2):
            value = self._base_value(f"_base_.{parts[place]}")
            if isinstance(value, CONTAINERS):
                raise _Unknown(f"{parts[place]} is not a text or number")
            parts[place] = str(value)
            if sum(map(len, parts[: place + 1])) > MAX_ITEMS:
                raise _Unknown("filling in builds something too long")
        return "".join(parts)

    def _place(self, node: ast.AST) -> str:
        line = f"line {getattr(node, 'lineno', '?')}"
        return f"{self.path.name}, {line}" if self.ancestors else line

    def _note(self, node: ast.stmt, reason: str) -> None:
        self.parsed.notes.append((self._place(node), f"`{_source(node)}` {reason}"))


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


def _is_plain(key: Any) -> bool:
    return key is None or isinstance(key, str | int | float)


def _assigned_names(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imported_modules(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def _dotted(node: ast.AST) -> str:
    """Convert nested attributes to a dotted name such as `_base_.model.test_cfg`; empty for other expressions."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner and isinstance(node, ast.Attribute) else ""


def _source(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 50 else text[:47] + "..."
