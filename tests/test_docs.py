"""Every file, module and name of the package that the documentation mentions exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "clrernetlm"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PACKAGES = "|".join(sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()))
QUOTED = re.compile(r"`([^`\n]+)`")


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    missing = []
    for quoted in QUOTED.findall(page.read_text()):
        text = quoted.removeprefix("clrernetlm.").removeprefix("clrernetlm/")
        if re.fullmatch(rf"(?:{PACKAGES})(?:/[a-z_]+)+(?:\.py|/)?", text):
            path = PACKAGE / text
            known = path.exists() or path.with_suffix(".py").exists()
        elif re.fullmatch(rf"(?:{PACKAGES})(?:\.\w+)+", text) and not (ROOT / quoted).exists():
            # `training.epochs` is a setting: those begin like a package, and name no module in it.
            second = text.split(".")[1]
            module = PACKAGE / text.split(".")[0] / second
            if text == quoted and not (module.is_dir() or module.with_suffix(".py").is_file()):
                continue
            known = exists(text)
        else:
            continue
        if not known:
            missing.append(quoted)
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        for path in re.findall(rf"(?<![\w/.-])(?:{PACKAGES})/[a-z_/]+[a-z]", block):
            if not (
                (PACKAGE / path).exists() or (PACKAGE / path).with_suffix(".py").exists() or (ROOT / path).exists()
            ):
                missing.append(path)
    assert not missing, missing


def test_a_name_that_does_not_exist_would_be_found() -> None:
    assert exists("core.lane.Lane")
    assert not exists("core.lane.Lame")
    assert not exists("core.lame")
