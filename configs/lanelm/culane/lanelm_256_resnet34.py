"""LaneLM-256 on CLRerNet with ResNet-34: 13.0 MB to train (the paper's, without local sampling: 11.3 MB)."""

from clrernetlm.config import load_config

config = load_config("../base_lanelm.py")

config.model = load_config("../../clrernet/culane/clrernet_culane_resnet34.py").model

config.lanelm.network.embed_dim = 256
config.lanelm.network.num_heads = 8
config.lanelm.network.ffn_dim = 512
