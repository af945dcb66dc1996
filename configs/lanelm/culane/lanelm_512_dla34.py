"""LaneLM-512 on CLRerNet with DLA-34: 44.9 MB to train (the paper's, without local sampling: 39.7 MB)."""

from clrernetlm.config import load_config

config = load_config("../base_lanelm.py")

config.model = load_config("../../clrernet/culane/clrernet_culane_dla34_ema.py").model

config.lanelm.network.embed_dim = 512
config.lanelm.network.num_heads = 8
config.lanelm.network.ffn_dim = 1024
