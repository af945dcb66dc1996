"""Names of the inputs and outputs of exported graphs."""

from __future__ import annotations

IMAGES = "images"
STAGE = ("cls_logits", "anchor_params", "lengths", "xs")  # predictions of the detector's last stage
LANES = "lanes"  # the same predictions, sorted for lane NMS
LEVELS = ("level_8", "level_16", "level_32")  # the pyramid, by strides

# LaneLM's graphs. Files keep the names of the first version; the code has clearer ones.
ENCODE_IMAGE, PREFILL, STEP = "look", "prefill", "step"
FOVEA = "fovea"  # only of a model with `lanelm.network.fovea`
# Name in the graph -> field of `models.lanelm.requests.Requests`.
REQUEST = {
    "question": "proposal_x",
    "shown": "proposal_mask",
    "score": "score",
    "prompts": "prompts",
    "prompted": "prompt_mask",
    "is_start": "is_start",
}
# Name in the graph -> field of `models.lanelm.requests.RowPriors`.
ROW_PRIORS = {
    "reference": "reference",
    "referred": "has_reference",
    "before_x": "before_x",
    "before_rows": "before_rows",
    "after_x": "after_x",
    "after_rows": "after_rows",
}
CACHE = ("keys", "values", "visible")
PREFILL_RESULTS = ("lane", "row", "x", "sure", "has_question", *ROW_PRIORS, *CACHE)
STEP_RESULTS = ("go_on", "x_next", "sure_next", *(f"{name}_next" for name in CACHE))
MAX_CLICKS = 4  # prompts per request
# Name in the graph -> field of `models.lanelm.fovea.network.FoveaInput`; its results are the fields of `FoveaOutput`.
FOVEA_INPUT = {"patches": "patches", "row_features": "rows", "lane_features": "lane"}
FOVEA_RESULTS = ("offset", "spread", "on_lane", "seen", "lane", "type", "colour")
