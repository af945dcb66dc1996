"""The demo: training of the shipped detector continued on roads of one camera, for minutes on a plain CPU."""

from clrernetlm.config import load_config

config = load_config("../roads/roads_efficientnet_lite0.py")

config.data.root = "demo/data"

config.training.init_from = "roads_detector"
config.training.epochs = 3
config.training.learning_rate = 4e-4
config.training.warmup_steps = 20
config.training.ema_momentum = 0.02
config.training.fit_anchors = False
config.training.validate_every = 3
config.training.work_dir = "demo/run"
