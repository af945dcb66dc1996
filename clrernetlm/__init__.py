"""Lane detection to train, trust, deploy and talk to.

    from clrernetlm import Predictor

Names load on first use, so that `import clrernetlm` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clrernetlm.core.lazy_names import lazy_names
from clrernetlm.core.version import __version__ as __version__

if TYPE_CHECKING:
    from clrernetlm.config import Config, load_config
    from clrernetlm.core.errors import UserError
    from clrernetlm.core.lane import Lane
    from clrernetlm.core.viewport import Viewport
    from clrernetlm.inference.predictor import Predictor
    from clrernetlm.models.clrernet.detector import CLRerNet
    from clrernetlm.weights.build_models import init_detector

__all__ = ["CLRerNet", "Config", "Lane", "Predictor", "UserError", "Viewport", "init_detector", "load_config"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "CLRerNet": "clrernetlm.models.clrernet.detector",
        "Config": "clrernetlm.config",
        "Lane": "clrernetlm.core.lane",
        "Predictor": "clrernetlm.inference.predictor",
        "UserError": "clrernetlm.core.errors",
        "Viewport": "clrernetlm.core.viewport",
        "init_detector": "clrernetlm.weights.build_models",
        "load_config": "clrernetlm.config",
    },
)
