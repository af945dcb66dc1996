"""CLRerNet with ResNet-50 on CULane: the recipe of DLA-34. No published figure."""

from clrernetlm.config import BackboneConfig, load_config

config = load_config("clrernet_culane_dla34.py")

config.model.backbone = BackboneConfig(name="resnet50", pretrained=True)
