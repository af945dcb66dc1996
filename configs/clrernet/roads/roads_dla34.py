"""DLA-34 on generated roads, for a machine with a GPU: the recipe of the detector that ships at the published size.

clrernetlm synth roads/data --train 40000 --val 400 --test 600 --seed 7 --size 1280x460 --randomization all
clrernetlm train roads_dla34
"""

from clrernetlm.config import BackboneConfig, HeadConfig, load_config
from clrernetlm.core.viewport import Viewport

config = load_config("roads_efficientnet_lite0.py")

config.model.backbone = BackboneConfig(name="dla34", pretrained=True)
config.model.head = HeadConfig()
config.model.viewport = Viewport(width=800, height=320, top=0.36)
config.model.decode.nms_threshold = 50

config.data.batch_size = 24
config.data.num_workers = 8

config.training.epochs = 20
config.training.learning_rate = 6e-4
config.training.backbone_lr_scale = 1.0
config.training.ema_momentum = 1e-3
config.training.freeze_stem = False
config.training.freeze_backbone_norm = False
