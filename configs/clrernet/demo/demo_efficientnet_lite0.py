"""The demo: a small CLRerNet on generated roads, trained in minutes on a plain CPU."""

from clrernetlm.config import BackboneConfig, DataConfig, TrainingConfig, load_config
from clrernetlm.geometry import Viewport

config = load_config("../base_clrernet.py")

config.model.backbone = BackboneConfig(name="efficientnet_lite0", pretrained=True)
config.model.viewport = Viewport(width=400, height=160)
config.model.loss.seg_weight = 0  # no masks

config.data = DataConfig(root="demo/data", diff_file=None, use_masks=False, batch_size=16, num_workers=2)

config.training = TrainingConfig(epochs=6, learning_rate=6e-4, warmup_steps=20, work_dir="demo/work")
