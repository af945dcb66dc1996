"""Every file, module, name, setting, command line and link that the documentation mentions exists."""

import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clrernetlm.cli.arguments import parse
from clrernetlm.cli.commands import COMMANDS
from clrernetlm.config import Config

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clrernetlm"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "configs" / "README.md"]
PACKAGES = "|".join(sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
QUOTED = re.compile(r"`([^`\n]+)`")
CODE_BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
# Files of the original repository that a page names, and one that an example writes.
OTHER_FILES = {"configs/clrernet/culane/base_clrernet.py", "configs/mine.py"}
EXAMPLES_OF_ERRORS = {"training.lr"}  # settings that do not exist, in error messages

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def names_of(path: Path) -> dict[str, ast.stmt]:
    """The names that a module defines or imports."""
    found: dict[str, ast.stmt] = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name: node for alias in node.names}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def exists(dotted: str) -> bool:
    """Whether `package.module.name`, below the package, is a module or a name in one."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:depth])
        module = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
        if module.is_file():
            return all(name in names_of(module) for name in parts[depth:])
    return False


def setting_names(value: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings, and of the groups that hold them."""
    for item in fields(value):
        yield prefix + item.name
        inner = getattr(value, item.name)
        if is_dataclass(inner):
            yield from setting_names(inner, f"{prefix}{item.name}.")


SETTINGS = frozenset(setting_names(Config()))


@every_page
def test_the_modules_and_settings_that_a_page_names_exist(page: Path) -> None:
    missing = []
    for quoted in QUOTED.findall(page.read_text()):
        text = quoted.removeprefix("clrernetlm.").removeprefix("clrernetlm/").removesuffix("()")
        if re.fullmatch(rf"(?:{PACKAGES})(?:/[a-z_]+)+(?:\.py|/)?", text):
            path = PACKAGE / text
            known = path.exists() or path.with_suffix(".py").exists()
        elif re.fullmatch(rf"(?:{PACKAGES}|model|lanelm)(?:\.\w+)+", text) and not text.endswith(".csv"):
            known = text in SETTINGS or exists(text)  # `training.epochs` begins like a package, and is a setting
        else:
            continue
        if not known:
            missing.append(quoted)
    options = re.findall(r"--((?:model|data|training|evaluation|lanelm)\.[\w.-]*\w)", page.read_text())
    missing += [option for option in options if option.replace("-", "_") not in SETTINGS | EXAMPLES_OF_ERRORS]
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for path in re.findall(rf"(?<![\w/.-])(?:{PACKAGES})/[a-z_/]+[a-z]", block):
            if not (
                (PACKAGE / path).exists() or (PACKAGE / path).with_suffix(".py").exists() or (ROOT / path).exists()
            ):
                missing.append(path)
    assert not missing, missing


@every_page
def test_the_files_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"(?<![\w/.-])(?:benchmarks|configs|docs|examples|tests|tools)/[\w/-]+\.\w+", page.read_text())
    missing = {name for name in named if not (ROOT / name).exists()} - OTHER_FILES
    assert not missing, missing


@every_page
def test_the_links_of_a_page_lead_to_a_file_and_a_heading(page: Path) -> None:
    missing = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            missing.append(link)
    assert not missing, missing


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_the_command_lines_of_a_page_can_be_parsed(page: Path) -> None:
    for block in CODE_BLOCK.findall(page.read_text()):
        for line in block.replace("\\\n", " ").replace("$RESUME", "--resume").splitlines():
            found = re.search(rf"(?:^|\s|/)clrernetlm ({'|'.join(COMMANDS)})(?= |$)(.*)", line)
            if found:
                parse(found[1], shlex.split(found[2], comments=True))


def test_a_name_that_does_not_exist_would_be_found() -> None:
    assert exists("core.lane.Lane")
    assert not exists("core.lane.Lame")
    assert not exists("core.lame")
    assert "training.learning_rate" in SETTINGS
    assert "training.lr" not in SETTINGS
