"""Defines the backbones: DLA, ResNet and EfficientNet-Lite."""
