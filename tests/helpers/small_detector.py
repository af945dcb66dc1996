"""Settings with which training runs in seconds."""

from pathlib import Path

import torch
from torch import nn

from clrernetlm.config import (
    AugmentationConfig,
    BackboneConfig,
    ClrernetConfig,
    Config,
    DataConfig,
    DecodeConfig,
    EvaluationConfig,
    HeadConfig,
    TrainingConfig,
)
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.clrernet.detector import CLRerNet

STILL = AugmentationConfig(flip=0, channel_shuffle=0, brightness_contrast=0, hsv=0, blur=0, affine=0)


def small_config(root: Path, work_dir: Path, **training: object) -> Config:
    """Return settings: DLA-46-C and a quarter of the anchors at 160x64 on drawn roads, no augmentation, CPU."""
    return Config(
        model=ClrernetConfig(
            backbone=BackboneConfig(name="dla46_c"),
            head=HeadConfig(num_priors=48, roi_channels=12),
            decode=DecodeConfig(nms_threshold=10),
            viewport=Viewport(width=160, height=64, top=0.45),
        ),
        data=DataConfig(root=str(root), diff_file=None, batch_size=8, num_workers=0, augmentation=STILL),
        training=TrainingConfig(work_dir=str(work_dir), device="cpu", **training),
        evaluation=EvaluationConfig(image_size=(410, 148), lane_width=8),
        name="small",
    )


def train_detector(config: Config) -> Path:
    """Train as `train` does, without checkpoints after every epoch: with epochs of one step they take half the time.

    Returns the file of the weights, in the work directory.
    """
    import torch  # here, because other users need only the settings

    from clrernetlm.training.callbacks import RunCheckpoint
    from clrernetlm.training.train import build_detector_training, build_trainer
    from clrernetlm.weights.checkpoint import save_official

    work_dir = Path(config.training.work_dir or "")
    torch.manual_seed(config.training.seed)
    module, data = build_detector_training(config)
    module.init_weights(data)
    trainer = build_trainer(config, work_dir)
    trainer.callbacks = [callback for callback in trainer.callbacks if not isinstance(callback, RunCheckpoint)]
    trainer.fit(module, datamodule=data)
    save_official(module.model, work_dir / "weights.pth")
    return work_dir / "weights.pth"


def seeded_detector(backbone: str) -> CLRerNet:
    """Return a small detector of seeded weights; its norms have statistics, so features have the usual scale."""
    torch.manual_seed(0)
    model = CLRerNet(ClrernetConfig(backbone=BackboneConfig(backbone), viewport=Viewport(width=160, height=96)))
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.2)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return model.eval()
