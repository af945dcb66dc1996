"""Generates photograph-like road scenes with exact lane labels, in the layout of CULane."""

from clrernetlm.synth.dataset import generate_dataset
from clrernetlm.synth.renderer import labelled_lanes, render
from clrernetlm.synth.scene import CATEGORIES, SceneSettings
from clrernetlm.synth.scene_sampling import sample_scene

__all__ = ["CATEGORIES", "SceneSettings", "generate_dataset", "labelled_lanes", "render", "sample_scene"]
