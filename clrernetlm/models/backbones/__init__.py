"""Backbones: DLA, ResNet, EfficientNet-lite."""
