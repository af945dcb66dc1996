"""Lists and downloads models: `clrernetlm models`."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from clrernetlm.config.suggestions import did_you_mean
from clrernetlm.core.errors import UserError
from clrernetlm.core.files import sha256
from clrernetlm.weights.download import download
from clrernetlm.weights.registry import BUNDLED, DEFAULT_DETECTOR, REMOTE, BundledModel, RemoteModel, model_cards


def print_models() -> None:
    """Print a table of bundled and remote models, and whether they are on this machine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "here", "MB"):
        table.add_column(title, no_wrap=True)
    for title in ("licence", "description"):
        table.add_column(title)
    models: list[BundledModel | RemoteModel] = [*BUNDLED.values(), *REMOTE.values()]
    for model in models:
        name = f"{model.name} (detect)" if model.name == DEFAULT_DETECTOR else model.name
        table.add_row(name, state(model), _megabytes(model.path), model.licence, model.description)
    console = Console()
    console.print(table)
    console.print(
        f"\nroads*: inside the package, nothing to get; {model_cards()} says what they can do. clrernet_*: checkpoints "
        "of the CLRerNet authors, `clrernetlm models get NAME`; the addresses are those of their README.",
        highlight=False,
    )


def state(model: BundledModel | RemoteModel) -> str:
    """Describe whether a model is on this machine: `yes`, `yes, unverified` without a SHA-256, `damaged`, `no`."""
    if not model.path.is_file():
        return "no"
    if model.sha256 is None:
        return "yes, unverified" if isinstance(model, RemoteModel) else "yes"
    return "yes" if sha256(model.path) == model.sha256 else "damaged"


def get_model(name: str, folder: str | None = None) -> Path:
    """Download a remote checkpoint to `folder` or the cache, unless it is there; prints and returns its path.

    Raises UserError for an unknown name and for whatever stops the download.
    """
    if name in BUNDLED:
        raise UserError(f"{name}: ships with clrernetlm; `clrernetlm detect photo.jpg --model {name}` finds it")
    model = REMOTE.get(name.removesuffix(".pth"))
    if model is None:
        hint = did_you_mean(name, REMOTE) or f"; use one of {', '.join(REMOTE)}"
        raise UserError(f"{name}: no such model{hint}")
    target = model.path if folder is None else Path(folder) / model.file
    if target.is_file():
        print(f"{target} is there already")
        return target
    found = download(model.url, target, model.sha256)
    verdict = "verified" if model.sha256 else "unverified: its authors publish no hash to compare with"
    print(f"{target}\nsha256 {found} ({verdict})")
    return target


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f}" if path.is_file() else ""
