"""LaneLM-128 on CLRerNet with EfficientNet-Lite0, the lightest pair: 4.2 MB to train."""

from clrernetlm.config import load_config

config = load_config("lanelm_128_resnet18.py")

config.model = load_config("../../clrernet/culane/clrernet_culane_efficientnet_lite0.py").model
