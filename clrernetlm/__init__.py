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
    from clrernetlm.core.errors import UserError
    from clrernetlm.core.lane import Lane
    from clrernetlm.core.viewport import Viewport
    from clrernetlm.inference.predictor import Predictor
    from clrernetlm.models.clrernet.detector import CLRerNet
    from clrernetlm.weights.build import init_detector

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
