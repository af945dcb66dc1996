"""The fovea of the LaneLM that ships: it reads the frame's own pixels and moves lanes onto their paint.

Its roads are new ones, of a camera's usual resolution. It trains on top of the finished LaneLM:

clrernetlm synth roads/fovea --train 7000 --val 300 --test 600 --seed 21 --size 1280x720 --randomization all
clrernetlm train roads_fovea --training.init-from roads
"""

from clrernetlm.config import TrainingConfig, load_config

config = load_config("roads_lanelm.py")
config.lanelm.network.fovea = True
config.lanelm.cached_augmentations = 2
config.lanelm.cache = "roads/answers"

config.data.root = "roads/fovea"
config.data.batch_size = 16
config.data.augmentation.affine_rotate = (-5.0, 5.0)
config.data.augmentation.affine_scale = (0.9, 1.3)

config.training = TrainingConfig(
    epochs=12,
    learning_rate=1.5e-3,
    betas=(0.9, 0.98),
    weight_decay=0.02,
    warmup_steps=200,
    clip_norm=1,
    precision="bf16-mixed",
    validate_every=4,
)
