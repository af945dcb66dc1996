"""Crops as options of the command line; a crop given there is not changed."""

import pytest

from clrernetlm.cli.size_and_crop import fix_given_crop, parse_crop
from clrernetlm.config import Config
from clrernetlm.core.errors import UserError


def auto() -> Config:
    config = Config()
    config.model.viewport_mode = "auto"
    return config


@pytest.mark.parametrize(("text", "edges"), [("0.4", (0.4, 1.0)), ("0.4,0.9", (0.4, 0.9)), ("0", (0.0, 1.0))])
def test_crop_accepts_the_top_edge_or_both_edges(text: str, edges: tuple[float, float]) -> None:
    assert parse_crop(text) == edges
    config = fix_given_crop(auto(), [], text)
    assert (config.model.viewport.top, config.model.viewport.bottom) == edges
    assert config.model.viewport_mode == "fixed"


@pytest.mark.parametrize("text", ["", "a", "1", "-0.1", "0.5,0.4", "0.1,0.2,0.3", "0.2,", "nan", "0.3,2"])
def test_an_invalid_crop_is_a_one_line_error(text: str) -> None:
    with pytest.raises(UserError, match=r"^crop: .* is not TOP or TOP,BOTTOM; use fractions"):
        parse_crop(text)


def test_only_edge_settings_fix_the_crop() -> None:
    assert fix_given_crop(auto(), ["--model.viewport.top", "0.3"]).model.viewport_mode == "fixed"
    assert fix_given_crop(auto(), ["model.viewport.bottom=0.9"]).model.viewport_mode == "fixed"
    assert fix_given_crop(auto(), ["--model.max-lanes", "6"]).model.viewport_mode == "auto"
    both = ["--model.viewport.top", "0.3", "--model.viewport-mode", "auto"]
    assert fix_given_crop(auto(), both).model.viewport_mode == "auto"
