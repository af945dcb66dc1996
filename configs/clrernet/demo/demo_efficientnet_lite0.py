"""The demo: a small CLRerNet on generated roads, trained in minutes on a plain CPU."""

from clrernetlm.config import BackboneConfig, DataConfig, EvaluationConfig, HeadConfig, TrainingConfig, load_config
from clrernetlm.geometry import Viewport

config = load_config("../base_clrernet.py")

# A sixth of the pixels and half the anchors of the published model: 20 times less arithmetic per image.
config.model.backbone = BackboneConfig(name="efficientnet_lite0", pretrained=True)
config.model.head = HeadConfig(num_priors=96, roi_channels=24)
config.model.viewport = Viewport(width=320, height=128)
config.model.decode.nms_threshold = 20  # pixels of this narrower input
config.model.loss.seg_weight = 0  # no masks

config.data = DataConfig(root="demo/data", diff_file=None, use_masks=False, batch_size=8, num_workers=2)

config.training = TrainingConfig(epochs=6, learning_rate=8e-4, warmup_steps=50, clip_norm=10, work_dir="demo/run")

# Half of CULane's frame along each side, so lanes are compared half as wide.
config.evaluation = EvaluationConfig(image_size=(820, 295), lane_width=15)
