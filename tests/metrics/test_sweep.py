"""The sweep equals evaluating the files of every threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clrernetlm.core.errors import UserError
from clrernetlm.core.image_list import read_images
from clrernetlm.core.lane import Lane
from clrernetlm.core.lane_files import lane_file_path, read_lines
from clrernetlm.metrics import evaluate, match_lanes
from clrernetlm.metrics.prediction_files import PredictionWriter
from clrernetlm.metrics.sweep import scored_ious, sweep_confidence


def random_images(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    shapes = rng.integers(0, 7, (count, 2))
    return [(np.round(rng.uniform(0, 1, n), 2), rng.uniform(0, 1, (n, m))) for n, m in shapes]


@pytest.mark.parametrize("implementation", ["clrernet", "official"])
def test_the_sweep_equals_matching_every_subset(implementation: str) -> None:
    images = random_images(200)
    sweep = sweep_confidence(iter(images), 0.5, implementation=implementation)
    for i, confidence in enumerate(sweep.confidences):
        tp = predictions = labels = 0
        for scores, ious in images:
            kept = ious[scores >= confidence]
            tp += int((kept[match_lanes(kept, implementation)] > 0.5).sum())
            predictions += len(kept)
            labels += ious.shape[1]
        assert (sweep.tp[i], sweep.fp[i], sweep.fn[i]) == (tp, predictions - tp, labels - tp)
    points = sweep.points()
    assert sweep.best()["f1"] == max(point["f1"] for point in points)
    assert sweep.to_dict()["points"] == points


def test_no_images_and_no_predictions() -> None:
    assert sweep_confidence([]).best()["f1"] == 0
    point = sweep_confidence([(np.zeros(0), np.zeros((0, 3)))], confidences=(0.5,)).best()
    assert (point["tp"], point["fp"], point["fn"]) == (0, 0, 3)


def test_equals_the_evaluator_on_written_predictions(tree: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    listed = tree / "gt/list/test.txt"
    images = list(read_images(listed))
    with PredictionWriter(tmp_path / "pred", min_score=0.3) as writer:
        for image in images[1:]:  # one image without a prediction
            lanes = read_lines(lane_file_path(tree / "pred", image))
            writer.write("/" + image, [Lane(points, float(rng.uniform(0.1, 1))) for points in lanes])
    for implementation in ("clrernet", "official"):
        rows = scored_ious(writer.predictions_file, tree / "gt", listed, implementation)
        point = sweep_confidence(rows, confidences=(0.3,), implementation=implementation).best()
        result = evaluate(tmp_path / "pred", tree / "gt", listed, implementation=implementation, workers=1)
        assert {key: point[key] for key in ("tp", "fp", "fn", "f1")} == {
            key: result.total.at(0.5)[key] for key in ("tp", "fp", "fn", "f1")
        }


def test_malformed_predictions_are_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.jsonl"
    good = '{"path": "/a.jpg", "lanes": []}\n'
    for bad in ("{", "[]", '{"path": "/b.jpg"}', '{"path": "/b.jpg", "lanes": [{"score": 1, "points": [[1, 2, 3]]}]}'):
        path.write_text(good + bad + "\n")
        (tmp_path / "a.lines.txt").write_text("")
        with pytest.raises(UserError, match=r"predictions.jsonl, line 2: not a prediction"):
            list(scored_ious(path, tmp_path))
    with pytest.raises(UserError, match="cannot be read"):
        list(scored_ious(tmp_path / "none.jsonl", tmp_path))


def test_predictions_of_other_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "predictions.jsonl").write_text('{"path": "/a.jpg", "lanes": []}\n')
    (tmp_path / "list.txt").write_text("/b.jpg\n")
    (tmp_path / "b.lines.txt").write_text("")
    with pytest.raises(UserError, match=r"predictions.jsonl: has none of the 1 images of .*list.txt, such as /b.jpg"):
        list(scored_ious(tmp_path / "predictions.jsonl", tmp_path, tmp_path / "list.txt"))
