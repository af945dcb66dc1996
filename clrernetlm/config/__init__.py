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
    LossConfig,
    TrainingConfig,
)

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
    "LossConfig",
    "TrainingConfig",
]
