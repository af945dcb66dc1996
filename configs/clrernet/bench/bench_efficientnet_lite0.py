"""The detector of the LaneLM bench: the demo's CLRerNet on 3,000 generated roads.

clrernetlm synth bench/data --train 3000 --val 300 --test 500 --seed 3 --size 820x295
"""

from clrernetlm.config import load_config

config = load_config("../demo/demo_efficientnet_lite0.py")

config.data.root = "bench/data"
config.training.epochs = 5
config.training.validate_every = 1
config.training.work_dir = None
