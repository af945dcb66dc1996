"""Road generator: photograph-like scenes with exact lanes, in the layout of CULane."""

from clrernetlm.synth.dataset import generate_dataset
from clrernetlm.synth.renderer import lanes, render
from clrernetlm.synth.sampling import sample_scene
from clrernetlm.synth.scene import CATEGORIES, SceneSettings

__all__ = ["CATEGORIES", "SceneSettings", "generate_dataset", "lanes", "render", "sample_scene"]
