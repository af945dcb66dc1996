"""The plain LaneLM of the founding prototype: one pyramid level, no proposals, no end. A baseline that learns no lanes.

`python tools/train_lanelm_culane.py --plain` trains it as the prototype did.
"""

from clrernetlm.config import load_config

config = load_config("../base_lanelm.py")

config.model = load_config("../../clrernet/culane/clrernet_culane_dla34_ema.py").model

config.lanelm.variant = "plain"
config.lanelm.network.embed_dim = 256
config.lanelm.network.num_heads = 8
config.lanelm.network.ffn_dim = 512

config.data.batch_size = 16
config.training.epochs = 5
config.training.validate_every = 1
