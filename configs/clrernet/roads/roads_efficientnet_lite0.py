"""The detector that ships: CLRerNet with EfficientNet-Lite0, trained on generated roads for any real camera.

clrernetlm synth roads/data --train 9000 --val 400 --test 600 --seed 7 --size 820x295 --randomization all
clrernetlm train roads_efficientnet_lite0
"""

from clrernetlm.config import (
    AugmentationConfig,
    BackboneConfig,
    DataConfig,
    EvaluationConfig,
    HeadConfig,
    TrainingConfig,
    load_config,
)
from clrernetlm.core.viewport import Viewport

config = load_config("../base_clrernet.py")

config.model.backbone = BackboneConfig(name="efficientnet_lite0", pretrained=True)
config.model.head = HeadConfig(num_priors=96, roi_channels=32, sample_points=36)
# The horizons of common cameras lie below the upper third of a frame, whatever its shape.
config.model.viewport = Viewport(width=512, height=192, top=0.36)
config.model.viewport_mode = "auto"
config.model.decode.nms_threshold = 32  # 50 of 800 pixels
config.model.decode.conf_threshold = 0.40  # best on generated validation images
config.model.loss.seg_weight = 0  # no masks
config.model.assigner.min_topk = 2

config.data = DataConfig(
    root="roads/data",
    diff_file=None,
    use_masks=False,
    batch_size=16,
    num_workers=1,
    augmentation=AugmentationConfig(channel_shuffle=0.05, affine=0.7),
)

config.training = TrainingConfig(
    epochs=12,
    learning_rate=1e-3,
    backbone_lr_scale=0.3,
    warmup_steps=200,
    clip_norm=10,
    ema_momentum=2e-3,
    precision="bf16-mixed",
    freeze_stem=True,
    freeze_backbone_norm=True,
    fit_anchors=True,
)

# Frames of all shapes are compared at a width of 1640 pixels.
config.evaluation = EvaluationConfig(image_size=None, lane_width=30)
