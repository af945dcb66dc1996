"""LaneLM on CULane, without detector and size: the configs beside this one build on it.

Train it on a CLRerNet checkpoint: clrernetlm train lanelm_512_dla34 --lanelm.detector clrernet_culane_dla34_ema.pth
"""

from clrernetlm.config import LaneLMConfig, LaneLMNetworkConfig, TrainingConfig, load_config

config = load_config("../clrernet/culane/dataset_culane_clrernet.py")

config.task = "lanelm"

config.lanelm = LaneLMConfig(network=LaneLMNetworkConfig(num_steps=40, nbins_x=800, num_layers=3))

config.data.batch_size = 128

config.training = TrainingConfig(
    epochs=100,
    learning_rate=1e-3,
    betas=(0.9, 0.98),
    weight_decay=0.05,
    warmup_steps=1000,  # two epochs of CULane without the frames that hardly move
    clip_norm=1.0,
    validate_every=5,
)
