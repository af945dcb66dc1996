"""Lane detection to train, trust, deploy and talk to.

    from clrernetlm import Predictor

Names load on first use, so that `import clrernetlm` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from clrernetlm.config import Config, load_config
    from clrernetlm.errors import UserError
    from clrernetlm.geometry import Viewport
    from clrernetlm.lane import Lane
    from clrernetlm.models.clrernet import CLRerNet, init_detector
    from clrernetlm.predictor import Predictor

_HOME = {
    "CLRerNet": "models.clrernet",
    "Config": "config",
    "Lane": "lane",
    "Predictor": "predictor",
    "UserError": "errors",
    "Viewport": "geometry",
    "init_detector": "models.clrernet",
    "load_config": "config",
}

__all__ = ["CLRerNet", "Config", "Lane", "Predictor", "UserError", "Viewport", "init_detector", "load_config"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
