"""Finds config files by path or name, and runs them."""

from __future__ import annotations

import re
import runpy
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from clrernetlm.config import schema
from clrernetlm.config.mmdetection.translate import import_mmdetection, is_mmdetection
from clrernetlm.config.overrides import apply_overrides
from clrernetlm.config.schema import Config
from clrernetlm.config.serialization import from_dict, setting_types, to_dict
from clrernetlm.config.suggestions import closest, did_you_mean
from clrernetlm.config.validation import validate
from clrernetlm.core.argument_checks import require_path, require_texts
from clrernetlm.core.errors import UserError
from clrernetlm.core.version import PACKAGE_FOLDER

# The config files that are running, outermost first.
_running: ContextVar[tuple[Path, ...]] = ContextVar("_running", default=())
# The list to which read files are appended, inside `files_of_configs`.
_files_read: ContextVar[list[Path] | None] = ContextVar("_files_read", default=None)
_one_at_a_time = threading.RLock()  # `runpy` changes `sys.modules` and `sys.argv` while a file runs


def load_config(path_or_name: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load the Config of a file, and apply `overrides` such as `--training.epochs 3` or `training.epochs=3`.

    `path_or_name` is a path, or the name of a config of this project: `clrernet_culane_dla34`, with or without folder
    and `.py`. A config file is Python that defines `config = Config(...)`. It can build on another file by calling
    `load_config` itself; paths are then relative to its own folder. An MMDetection config of CLRerNet is translated
    without being run (`clrernetlm.config.mmdetection.translate`), and a warning names settings without counterpart.

    Raises UserError for an unknown name, for a file that fails (with its line), and for a wrong name, type or range of
    a setting.
    """
    require_path(path_or_name, "config")
    require_texts(overrides, "overrides")
    path = find_config(path_or_name)
    if path in _running.get():
        raise UserError(f"{path}: builds on itself; follow its load_config calls")
    if is_mmdetection(path):
        imported = import_mmdetection(path)
        imported.warn()
        _record_files(*imported.files)
        config = imported.config
    else:
        _record_files(path)
        config = _run(path)
    config = apply_overrides(config, overrides)
    if not _running.get():
        config.name = config.name or path.stem
        validate(config)
    return config


@contextmanager
def files_of_configs() -> Iterator[list[Path]]:
    """Collect the files that `load_config` reads in the block: configs, and all that they build on."""
    files: list[Path] = []
    token = _files_read.set(files)
    try:
        yield files
    finally:
        _files_read.reset(token)


def _record_files(*files: Path) -> None:
    files_read = _files_read.get()
    if files_read is not None:
        files_read.extend(files)


def find_config(path_or_name: str | Path) -> Path:
    """Find the file of a path or name; raises UserError with the closest names.

    Searched in this order: beside the config file that is running, in the working directory, in the project's configs.
    """
    wanted = Path(path_or_name)
    if wanted.suffix not in ("", ".py") and wanted.is_file():
        raise UserError(f"{wanted}: not a config; a config is a Python file (.py)")
    relative = Path(*wanted.parts[1:]) if wanted.parts[:1] == ("configs",) else wanted
    folders = [path.parent for path in _running.get()[-1:]] + [Path.cwd()]
    candidates = [folder / wanted for folder in folders] + [config_folder() / relative]
    for candidate in candidates:
        for path in (candidate, candidate.with_name(candidate.name + ".py")):
            if path.suffix == ".py" and path.is_file():
                return path.resolve()
    shipped = project_configs()
    stem = wanted.name.removesuffix(".py")
    if len(wanted.parts) == 1 and stem in shipped:
        return shipped[stem]
    near = closest(stem, shipped, count=3, cutoff=0.6)
    hint = f"did you mean {', '.join(near)}?" if near else f"configs of this project: {', '.join(shipped)}"
    raise UserError(f"{path_or_name}: no such config; {hint}")


def is_config(path_or_name: str) -> bool:
    """Check whether `find_config` finds a config of this path or name."""
    try:
        find_config(path_or_name)
    except UserError:
        return False
    return True


def project_configs() -> dict[str, Path]:
    """List {name: file} of the configs of this project, independent of the working directory."""
    return {path.stem: path for path in sorted(config_folder().rglob("*.py"))}


def config_folder() -> Path:
    """Return the folder of the project's configs: in an installed package, or beside the package in a checkout."""
    installed = PACKAGE_FOLDER / "configs"
    return installed if installed.is_dir() else PACKAGE_FOLDER.parent / "configs"


def _run(path: Path) -> Config:
    with _one_at_a_time, _entering(path):
        try:
            names = runpy.run_path(str(path), run_name=path.stem)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a file may raise errors of its own, of any kind
            raise UserError(f"{path}{_line_of(error, path)}: {_explain(error)}") from None
    config = names.get("config")
    if not isinstance(config, Config):
        defined = "defines no `config`" if config is None else f"`config` is a {type(config).__name__}, not a Config"
        raise UserError(f"{path}: {defined}; end the file with `config = Config(...)`")
    try:
        return from_dict(to_dict(config), str(path))
    except RecursionError:
        raise UserError(f"{path}: a setting contains itself; write its value out") from None


@contextmanager
def _entering(path: Path) -> Iterator[None]:
    token = _running.set((*_running.get(), path))
    try:
        yield
    finally:
        _running.reset(token)


def _line_of(error: BaseException, path: Path) -> str:
    """Format the line of `path` in which `error` was raised as `, line N`; empty if it was not raised in the file."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _explain(error: BaseException) -> str:
    """Explain an error of a config file in one line, with the closest name for a wrong one."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, SyntaxError):
        return f"not valid Python ({error.msg})"
    try:
        text = " ".join(str(error).split())
    except Exception:  # an error's own text may fail too
        text = ""
    quoted = re.search(r"(?:argument|attribute|name) '(\w+)'", text)
    names = {name.rpartition(".")[2] for name in setting_types()} | {
        name for name in vars(schema) if name.endswith("Config")
    }
    hint = did_you_mean(quoted[1], names) if quoted else ""
    return f"{type(error).__name__}: {text}{hint}" if text else f"{type(error).__name__}"
