"""CLRerNet with DLA-46-C on CULane: the recipe of DLA-34. No published figure."""

from clrernetlm.config import BackboneConfig, load_config

config = load_config("clrernet_culane_dla34.py")

config.model.backbone = BackboneConfig(name="dla46_c", pretrained=True)
