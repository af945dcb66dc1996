"""Every setting of the project, and configs: files, words and plain values that set them."""

from clrernetlm.config.loading import load_config
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
    LaneLMLessonConfig,
    LaneLMNetworkConfig,
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
    "LaneLMLessonConfig",
    "LaneLMNetworkConfig",
    "LossConfig",
    "TrainingConfig",
    "from_dict",
    "load_config",
    "to_dict",
]
