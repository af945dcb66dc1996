"""The report contains its numbers and images in one file."""

from __future__ import annotations

import base64
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import pytest
from markupsafe import Markup

from clrernetlm.core.errors import UserError
from clrernetlm.metrics import evaluate
from clrernetlm.metrics.sweep import sweep_confidence
from clrernetlm.reports.page import Html, Note, Section, is_report
from clrernetlm.reports.report import write_report
from clrernetlm.reports.worst_images import image_rows, mistake_pictures, worst_images


@pytest.fixture(scope="module")
def per_image(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("evaluation") / "images.jsonl"
    evaluate(tree / "pred", tree / "gt", tree / "gt/list/test.txt", per_image=path, workers=1)
    return path


def test_the_report_is_one_file_without_external_references(tree: Path, per_image: Path, tmp_path: Path) -> None:
    result = evaluate(
        tree / "pred", tree / "gt", tree / "gt/list/test.txt", categories=tree / "gt/list/test_split", workers=1
    )
    sweep = sweep_confidence([(np.array([0.9, 0.4]), np.array([[0.8, 0.0], [0.0, 0.6]]))])
    pictures = mistake_pictures(per_image, tree / "pred", tree / "gt", tmp_path, count=3)
    path = tmp_path / "report.html"
    facts = {"checkpoint": "<best>.pth", "device": "cpu"}
    extra = Section("Speed <1>", [Html(Markup("<p>41 images/s</p>")), Note("at < 9 W")])
    write_report(
        path,
        result.to_dict(),
        title="A & B",
        sweep={"ours": sweep, "theirs": sweep},
        images=pictures,
        facts=facts,
        sections=[extra],
    )
    assert is_report(path)
    html = path.read_text()
    for text in (
        "A &amp; B",
        "&lt;best&gt;.pth",
        "<p>41 images/s</p>",
        "Speed &lt;1&gt;",
        "at &lt; 9 W",
        "dazzle",
        "prefers-color-scheme",
        "ours",
        "theirs",
    ):
        assert text in html
    for row in (result.total, *result.categories.values()):
        assert f"<td>{100 * row.at(0.5)['f1']:.2f}</td>" in html
    assert not re.search(r"(src|href)=\"(?!data:)|<script|@import|url\(", html)
    assert len([ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html)]) == 2
    jpegs = re.findall(r"data:image/jpeg;base64,([^\"]+)", html)
    assert len(jpegs) == 3
    for data in jpegs:
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert image.shape[1] == 800


def test_worst_images_come_first(per_image: Path, golden: dict) -> None:
    worst = worst_images(per_image, count=5)
    mistakes = [line["fp"]["0.5"] + line["fn"]["0.5"] for line in worst]
    listed = [entry for entry in golden["per_image"] if "error" not in entry]
    assert mistakes == sorted((entry["fp"][1] + entry["fn"][1] for entry in listed), reverse=True)[:5]
    assert len(worst_images(per_image, count=1000)) < 62
    with pytest.raises(UserError, match=r"not a per-image file with IoU threshold 0\.6"):
        worst_images(per_image, threshold=0.6)


def test_the_report_works_without_optional_parts(tree: Path, tmp_path: Path) -> None:
    result = evaluate(tree / "pred", tree / "gt", tree / "gt/list/nan.txt", workers=1)
    write_report(tmp_path / "r.html", result.to_dict(), title="Empty")
    assert "<svg" not in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(
    "text",
    ["5", "[]", "null", '"a"', "\0", "[" * 90_000, "\ufeff{}", '{"path": 5}', '{"path": "a\\u0000.jpg"}',
     '{"path": "a.jpg", "tp": {"0.5": 1}, "fp": {"0.5": "x"}, "fn": {"0.5": 1}, "hits": {"0.5": []}}'],
    ids=range(10),
)  # fmt: skip
def test_invalid_per_image_files_are_a_one_line_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "images.jsonl"
    path.write_text(text + "\n", encoding="utf-8")
    for read in (lambda: worst_images(path), lambda: image_rows(path, {"a.jpg"})):
        with pytest.raises(UserError, match="not a per-image file"):
            read()
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not a per-image file"):
        image_rows(path, {"a.jpg"})
