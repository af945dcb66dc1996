"""Parses MMDetection config files to plain values from their syntax tree, without running them.

Supported are assignments, of what `expressions` evaluates, and `_base_` files with MMEngine's merging (including
`_delete_`). Other values become a `NotUnderstood`, other statements a note.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clrernetlm.config.mmdetection.expressions import Evaluator, is_plain, source_of
from clrernetlm.core.errors import UserError
from clrernetlm.core.nesting_limits import SizeLimitError, check_nesting

# Top-level names by which such a file is recognised; configs of this project define `config` and import clrernetlm.
MMDETECTION_KEYS = {
    "model", "data", "dataset_type", "train_pipeline", "train_dataloader", "val_dataloader", "test_dataloader",
    "optim_wrapper", "optimizer", "param_scheduler", "lr_config", "train_cfg", "default_scope", "default_hooks",
    "custom_hooks", "custom_imports", "checkpoint_config", "log_config",
}  # fmt: skip

# Limits for hostile files. CLRerNet's files have 5 kB and 300 values.
MAX_BYTES = 1 << 20  # of a file
MAX_STATEMENTS = 10_000  # of a file
MAX_FILES = 100  # base files of a config, counted every time one is read
MAX_VALUES = 100_000  # of all names of a file together
MAX_DEPTH = 50  # lists and dicts inside one another


@dataclass
class ParsedFile:
    """The content of a config file with its `_base_` files.

    `values`: {top-level name: value}; `referenced`: the names that other values refer to; `notes`: (position, reason)
    of statements that were ignored.
    """

    values: dict[str, Any] = field(default_factory=dict)
    referenced: set[str] = field(default_factory=set)
    notes: list[tuple[str, str]] = field(default_factory=list)


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
    """Parse a config and its `_base_` files; returns their merged values.

    `ancestors`: the files of which this is a `_base_`; `files` collects all files that were read.

    Raises UserError, with file and line, for invalid syntax, for `_base_` files that are missing, circular or of this
    project, and for files that build more than a config can hold.
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
        return _FileParser(path, ancestors, files).read(tree)
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


class _FileParser:
    """Parses one file: its bases, then its assignments in order."""

    def __init__(self, path: Path, ancestors: tuple[Path, ...], files: list[Path]) -> None:
        self.path = path
        self.ancestors = ancestors
        self.files = files
        self.base = ParsedFile()
        self.parsed = ParsedFile()
        self.evaluator = Evaluator(path.name if ancestors else "")
        self.names = self.evaluator.names

    def read(self, tree: ast.Module) -> ParsedFile:
        """Evaluate the file's assignments, and merge them into the values of its `_base_` files."""
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and any(
                isinstance(target, ast.Name) and target.id == "_base_" for target in statement.targets
            ):
                self._read_bases(statement)
        for statement in tree.body:
            self._statement(statement)
        check_nesting(self.names, MAX_VALUES, MAX_DEPTH)
        self.parsed.values = merge(self.base.values, self.names)
        self.parsed.referenced = self.evaluator.referenced | self.base.referenced
        self.parsed.notes = self.base.notes + self.parsed.notes
        return self.parsed

    def _read_bases(self, statement: ast.Assign) -> None:
        value = self.evaluator.value(statement.value)
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
            self.base.values = self.evaluator.base_values = merge(self.base.values, parsed.values)
            self.base.referenced |= parsed.referenced
            self.base.notes += parsed.notes

    def _statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, self.evaluator.value(node.value), node)
        elif isinstance(node, ast.AnnAssign) and node.value:
            self._assign(node.target, self.evaluator.value(node.value), node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            left = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
            expression = ast.copy_location(ast.BinOp(left, node.op, node.value), node)
            self._assign(node.target, self.evaluator.value(expression), node)
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
            container, key = self.evaluator.value(target.value), self.evaluator.value(target.slice)
            in_list = isinstance(container, list) and type(key) is int and -len(container) <= key < len(container)
            if (isinstance(container, dict) and is_plain(key)) or in_list:
                container[key] = value
                return
        self._note(node, "assigns to something that is not understood")

    def _note(self, node: ast.stmt, reason: str) -> None:
        self.parsed.notes.append((self.evaluator.position(node), f"`{source_of(node)}` {reason}"))


def _assigned_names(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _imported_modules(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
