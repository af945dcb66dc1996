"""Names of what goes into exported graphs and comes out of them."""

from __future__ import annotations

IMAGES = "images"
STAGE = ("cls_logits", "anchor_params", "lengths", "xs")
LANES = "lanes"
LEVELS = ("level_8", "level_16", "level_32")  # the pyramid, by strides

LOOK, PREFILL, STEP = "look", "prefill", "step"  # LaneLM's graphs
REQUEST = ("question", "shown", "score", "prompts", "prompted", "is_start")
GUIDES = ("reference", "referred", "before_x", "before_rows", "after_x", "after_rows")
CACHE = ("keys", "values", "visible")
FIRST = ("lane", "row", "x", "sure", "has_question", *GUIDES, *CACHE)  # results of prefill
NEXT = ("go_on", "x_next", "sure_next", *(f"{name}_next" for name in CACHE))  # results of step
MAX_CLICKS = 4  # places for prompts in a request
