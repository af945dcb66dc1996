"""Road generator: photograph-like scenes with exact lanes, in the layout of CULane."""

from clrernetlm.data.synth.dataset import generate_dataset
from clrernetlm.data.synth.picture import lanes, render
from clrernetlm.data.synth.scene import CATEGORIES, SceneSettings, sample_scene

__all__ = ["CATEGORIES", "SceneSettings", "generate_dataset", "lanes", "render", "sample_scene"]
