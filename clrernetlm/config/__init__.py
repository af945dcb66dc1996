"""Settings of the project, and configs: files, command-line overrides and plain values that set them."""

from typing import Any

from clrernetlm.config import schema as _schema
from clrernetlm.config.loading import load_config
from clrernetlm.config.old_names import RENAMED_CLASSES, warn_of_old_name
from clrernetlm.config.schema import (
    AssignerConfig,
    AugmentationConfig,
    BackboneConfig,
    ClrernetConfig,
    Config,
    DataConfig,
    DecodeConfig,
    EvaluationConfig,
    HeadConfig,
    LaneLMConfig,
    LaneLMDecodeConfig,
    LaneLMNetworkConfig,
    LaneLMTrainingRequestsConfig,
    LossConfig,
    TrainingConfig,
)
from clrernetlm.config.serialization import from_dict, to_dict

__all__ = [
    "AssignerConfig",
    "AugmentationConfig",
    "BackboneConfig",
    "ClrernetConfig",
    "Config",
    "DataConfig",
    "DecodeConfig",
    "EvaluationConfig",
    "HeadConfig",
    "LaneLMConfig",
    "LaneLMDecodeConfig",
    "LaneLMNetworkConfig",
    "LaneLMTrainingRequestsConfig",
    "LossConfig",
    "TrainingConfig",
    "from_dict",
    "load_config",
    "to_dict",
]


def __getattr__(name: str) -> Any:
    if name not in RENAMED_CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_of_old_name(f"{__name__}.{name}", RENAMED_CLASSES[name])
    return getattr(_schema, RENAMED_CLASSES[name])
