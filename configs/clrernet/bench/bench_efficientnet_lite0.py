"""The detector of the LaneLM bench: a small CLRerNet, 3,000 generated roads of one camera, minutes on a plain CPU.

clrernetlm synth bench/data --train 3000 --val 300 --test 500 --seed 3 --size 820x295
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

# A tenth of the published input's pixels and a quarter of its anchors.
config.model.backbone = BackboneConfig(name="efficientnet_lite0", pretrained=True)
config.model.head = HeadConfig(num_priors=48, roi_channels=16, sample_points=24)
config.model.viewport = Viewport(width=256, height=96)
config.model.decode.nms_threshold = 16  # pixels of this narrower input
config.model.loss.seg_weight = 0  # no masks
# Few images teach more when each lane has several anchors from the start.
config.model.assigner.min_topk = 3

config.data = DataConfig(
    root="bench/data",
    diff_file=None,
    use_masks=False,
    batch_size=4,
    num_workers=1,
    # Every image is seen a few times only: there is little to overfit.
    augmentation=AugmentationConfig(channel_shuffle=0, brightness_contrast=0.3, hsv=0.3, blur=0, affine=0),
)

config.training = TrainingConfig(
    epochs=5,
    learning_rate=1.5e-3,
    backbone_lr_scale=0.5,
    warmup_steps=50,
    clip_norm=10,
    fit_anchors=True,
)

# Half of CULane's frame along each side, so lanes are compared half as wide.
config.evaluation = EvaluationConfig(image_size=(820, 295), lane_width=15)
