"""The demo's language model: the bundled LaneLM, trained further on the features of the demo's detector."""

from clrernetlm.config import load_config

config = load_config("../roads/roads_lanelm.py")

config.data.root = "demo/data"
config.lanelm.detector = "demo/run/checkpoints/best.ckpt"
config.lanelm.cache = "demo/features"

config.training.init_from = "roads"
config.training.epochs = 3
config.training.learning_rate = 4e-4
config.training.warmup_steps = 20
config.training.validate_every = 3
config.training.work_dir = "demo/lanelm"
