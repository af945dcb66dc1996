"""LaneLM-128 on CLRerNet with ResNet-18: 4.2 MB to train (the paper's, without local sampling: 3.5 MB)."""

from clrernetlm.config import load_config

config = load_config("../base_lanelm.py")

config.model = load_config("../../clrernet/culane/clrernet_culane_resnet18.py").model

config.lanelm.network.embed_dim = 128
config.lanelm.network.num_heads = 4
config.lanelm.network.ffn_dim = 256
