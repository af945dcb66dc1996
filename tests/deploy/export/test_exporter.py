"""Exported detectors give PyTorch's results, and have metadata."""

import contextlib
import json
import os
import re
import resource
import signal
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from clrernetlm import Predictor, UserError
from clrernetlm.cli import main
from clrernetlm.config import Config
from clrernetlm.deploy.export import export_model
from clrernetlm.deploy.export.detector_graph import Graph
from clrernetlm.deploy.export.onnx_file import write_onnx
from clrernetlm.deploy.export.openvino_file import openvino_model, write_openvino
from clrernetlm.deploy.export.torch_file import write_program
from clrernetlm.deploy.runtimes import open_runtime
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.weights.checkpoint import save_official
from clrernetlm.weights.exported_metadata import ModelMetadata, parse_metadata, read_metadata
from clrernetlm.weights.pack import strip_machine_settings
from tests.helpers.exports import largest_difference, line_images, pytorch_outputs, random_detector

onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
pytest.importorskip("openvino", reason="the extra `export` is not installed")
SUFFIX = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, CLRerNet, Path]:
    config, model = random_detector()
    path = tmp_path_factory.mktemp("detector") / "small.pth"
    save_official(model, path)
    return config, model, path


@pytest.fixture(scope="module")
def files(detector: tuple[Config, CLRerNet, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    config, _, weights = detector
    folder = tmp_path_factory.mktemp("exported")
    paths = {to: folder / f"small{suffix}" for to, suffix in SUFFIX.items()}
    for to in ("onnx", "torch"):
        export_model(config, weights, to, dynamic_batch=True, out=paths[to])  # type: ignore[arg-type]
    # As `export_model` does, without tracing again.
    write_openvino(openvino_model(onnx.load(paths["onnx"])), paths["openvino"], read_metadata(paths["onnx"]))
    return paths


@pytest.mark.parametrize("to", SUFFIX)
def test_dynamic_batches_give_the_results_of_pytorch(detector, files: dict[str, Path], to: str) -> None:
    config, model, _ = detector
    runtime = open_runtime(files[to], threads=1, trust_code=True)
    for count in (1, 2, 5):
        images = line_images(config, count, seed=count)
        assert largest_difference(runtime.run({"images": images}), pytorch_outputs(model, images)) <= 1e-4


def test_openvino_reads_onnx_files_too(detector, files: dict[str, Path]) -> None:
    config, model, _ = detector
    images = line_images(config, 2)
    runtime = open_runtime(files["onnx"], threads=1, backend="openvino")
    assert largest_difference(runtime.run({"images": images}), pytorch_outputs(model, images)) <= 1e-4


@pytest.mark.parametrize("backbone", ["dla34", "resnet18", "efficientnet_lite0"])
def test_every_backbone_can_be_exported(backbone: str, tmp_path: Path) -> None:
    config, model = random_detector(backbone, stages=1)
    save_official(model, tmp_path / "weights.pth")
    path = export_model(config, tmp_path / "weights.pth", "onnx", out=tmp_path / "one.onnx")
    images = line_images(config, 2)
    # Made for one image at a time: two are two passes.
    assert (
        largest_difference(open_runtime(path, threads=1).run({"images": images}), pytorch_outputs(model, images))
        <= 1e-4
    )


@pytest.mark.parametrize("to", SUFFIX)
def test_an_exported_file_has_metadata(detector, files: dict[str, Path], to: str) -> None:
    config, _, _ = detector
    metadata = read_metadata(files[to])
    assert metadata.config == strip_machine_settings(config)
    assert (metadata.part, metadata.model_class, metadata.precision, metadata.batch) == (
        "detector",
        "CLRerNet",
        "fp32",
        None,
    )
    text = json.loads(metadata.text())
    assert text["viewport"]["top"] == config.model.viewport.top
    assert text["decode"]["conf_threshold"] == config.model.decode.conf_threshold


def test_fp16_halves_the_file_and_changes_results_little(detector, files: dict[str, Path], tmp_path: Path) -> None:
    config, model, _ = detector
    path = tmp_path / "half.onnx"
    write_onnx(onnx.load(files["onnx"]), path, replace(read_metadata(files["onnx"]), precision="fp16"))
    assert path.stat().st_size < 0.65 * files["onnx"].stat().st_size
    images = line_images(config, 2)
    assert (
        largest_difference(open_runtime(path, threads=1).run({"images": images}), pytorch_outputs(model, images))
        <= 2e-2
    )


def test_lanes_for_nms_are_the_stage_best_first(detector, files: dict[str, Path]) -> None:
    config, _, _ = detector
    found = open_runtime(files["onnx"], threads=1).run({"images": line_images(config, 2)})
    scores = torch.from_numpy(found["cls_logits"]).softmax(-1)[..., 1].numpy()
    order = np.argsort(-scores, axis=1, kind="stable")
    lanes, width, strips = found["lanes"], config.model.viewport.width, found["xs"].shape[2] - 1
    assert np.allclose(lanes[..., 0], np.take_along_axis(scores, order, 1), atol=1e-6)
    best = order[0, 0]
    assert np.allclose(lanes[0, 0, 1], (1 - found["anchor_params"][0, best, 0]) * strips, atol=1e-4)
    assert np.allclose(lanes[0, 0, 2], found["lengths"][0, best, 0] * strips, atol=1e-4)
    assert np.allclose(lanes[0, 0, 3:], found["xs"][0, best] * (width - 1), atol=1e-3)


def test_bf16_programs_give_nearly_the_same_results(detector, tmp_path: Path) -> None:
    config, model, weights = detector
    path = export_model(config, weights, "torch", precision="bf16", dynamic_batch=True, out=tmp_path / "small.pt2")
    images = line_images(config, 3)
    found = open_runtime(path, trust_code=True).run({"images": images})
    assert all(value.dtype == np.float32 for value in found.values())
    assert 0 < largest_difference(found, pytorch_outputs(model, images)) <= 5e-2


def test_unsupported_combinations_are_refused_before_any_work(detector, tmp_path: Path) -> None:
    config, _, weights = detector
    with pytest.raises(UserError, match=r"^config: missing; name a model \(roads, .*\), or a checkpoint"):
        export_model(None)
    with pytest.raises(UserError, match=r"bf16 is not offered for onnx"):
        export_model(config, weights, "onnx", precision="bf16")
    with pytest.raises(UserError, match=r"calibration: int8 needs images"):
        export_model(config, weights, "openvino", precision="int8")
    with pytest.raises(UserError, match=r"ends in \.onnx; use .*small\.onnx"):
        export_model(config, weights, "onnx", out=tmp_path / "small.xml")


def test_files_that_are_no_exports_are_refused_in_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    foreign = onnx.load(files["onnx"])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    for suffix in SUFFIX.values():
        (tmp_path / f"text{suffix}").write_text("not a model")
        (tmp_path / f"empty{suffix}").write_bytes(b"")
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(UserError) as caught:
            open_runtime(path, trust_code=True)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="no such exported model"):
        open_runtime(tmp_path / "absent.onnx")


@pytest.fixture
def hostile(files: dict[str, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Return a .pt2 whose sizes are an expression that creates a file, and the path of that file."""
    marker, path = tmp_path / "executed", tmp_path / "hostile.pt2"
    code = f"__import__('os').system('touch {marker}')"
    with zipfile.ZipFile(files["torch"]) as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            content = whole.read(name)
            if name.endswith("models/model.json"):
                content = re.sub(rb'"expr_str": ?"[^"]*"', f'"expr_str": "{code}"'.encode(), content)
            changed.writestr(name, content)
    return path, marker


def test_a_program_is_not_loaded_unless_its_maker_is_trusted(hostile: tuple[Path, Path]) -> None:
    path, marker = hostile
    assert read_metadata(path) == stored_about(path)
    for opened in (lambda: open_runtime(path), lambda: Predictor(checkpoint=path)):
        with pytest.raises(
            UserError, match=r"hostile\.pt2: a torch\.export program, which can run code .*trust_code=True"
        ):
            opened()
    assert not marker.exists()
    with contextlib.suppress(UserError):
        open_runtime(path, trust_code=True)
    assert marker.exists()  # trusted, the same file runs its code


def stored_about(path: Path) -> ModelMetadata:
    with zipfile.ZipFile(path) as archive:
        return parse_metadata(archive.read("archive/extra/clrernetlm").decode(), path)


def test_commands_need_the_option_trust_code(
    hostile: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, marker = hostile
    cv2.imwrite(str(tmp_path / "photo.jpg"), np.zeros((64, 160, 3), np.uint8))
    photo, out = str(tmp_path / "photo.jpg"), str(tmp_path / "out")
    for words in (
        ["detect", photo, "--model", str(path), "--out", out],
        ["test", str(path), "--data.root", str(tmp_path)],
        ["speed", str(path)],
        ["export", str(path)],
        ["pack", str(path), str(tmp_path / "x.safetensors")],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith(f"error: {path}: ")
    assert not marker.exists()
    main(["detect", photo, "--model", str(path), "--out", out, "--trust-code"])
    assert marker.exists()


@pytest.mark.parametrize("size", [2 << 20, 32 << 20])
def test_metadata_of_a_program_is_read_up_to_a_limit(size: int, tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt2"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("archive/extra/clrernetlm", "w") as text,
    ):
        for _ in range(size >> 20):
            text.write(b" " * (1 << 20))
    with pytest.raises(UserError, match=r"bomb\.pt2: metadata\.clrernetlm: .* characters"):
        read_metadata(path)


def test_graphs_with_external_data_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    weights = onnx.load(files["onnx"])
    tensor = weights.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    branch = onnx.load(files["onnx"])
    graph = onnx.GraphProto(name="inner", initializer=[tensor])
    branch.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=graph, else_branch=graph))
    operator = onnx.load(files["onnx"])
    operator.graph.node[0].domain = "somebody.else"
    loop = onnx.load(files["onnx"])
    loop.graph.node.append(onnx.helper.make_node("Loop", ["x", "y"], ["z"], body=onnx.GraphProto(name="for ever")))
    for model, reason in (
        (weights, "other files"),
        (branch, "other files"),
        (operator, "not ONNX's own"),
        (loop, "loops"),
    ):
        (tmp_path / "models").mkdir(exist_ok=True)
        path = tmp_path / "models" / "graph.onnx"
        path.write_bytes(model.SerializeToString())
        for backend in ("onnxruntime", "openvino"):
            with pytest.raises(UserError, match=rf"graph\.onnx: .*{reason}"):
                open_runtime(path, backend=backend)  # type: ignore[arg-type]


def spoilt(model: Any, fault: str) -> Any:
    """Return an ONNX detector with one fault."""
    graph = model.graph
    if fault == "output":
        del graph.output[1]
    elif fault == "input":
        extra = onnx.helper.make_tensor_value_info("more", 1, [1])
        graph.input.append(extra)
    elif fault == "nan":
        # The last of the weights, whose results are not clipped.
        for weight in graph.initializer:
            values = onnx.numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.size == 1:
                continue
            if values.dtype == np.float32:
                weight.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), weight.name))
    elif fault == "shape":
        name = graph.output[0].name
        for node in graph.node:
            node.output[:] = [f"{other}.whole" if other == name else other for other in node.output]
            node.input[:] = [f"{other}.whole" if other == name else other for other in node.input]
        axes = onnx.numpy_helper.from_array(np.array([0]), "new_axis")
        graph.initializer.append(axes)
        graph.node.append(onnx.helper.make_node("Unsqueeze", [f"{name}.whole", "new_axis"], [name]))
        del graph.output[0].type.tensor_type.shape.dim[:]
    elif fault == "size":
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 96
    return model


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("output", "has no output anchor_params"),
        ("input", "takes more, which it is not given"),
        ("nan", "(is not finite: the weights are damaged|the graph cannot compute)"),  # NaN may become an index
        ("shape", "cls_logits is 1x1x48x2, not 1x48x2"),
        ("size", ""),
    ],
)
def test_damaged_graphs_are_a_one_line_error(
    files: dict[str, Path], tmp_path: Path, backend: str, fault: str, message: str
) -> None:
    path = tmp_path / "spoilt.onnx"
    path.write_bytes(spoilt(onnx.load(files["onnx"]), fault).SerializeToString())

    def detect() -> None:
        predictor = Predictor(checkpoint=path, backend=backend)  # type: ignore[arg-type]
        predictor.set_image(np.zeros((148, 410, 3), np.uint8))

    with pytest.raises(UserError, match=rf"spoilt\.onnx: .*{message}.*export") as caught:
        detect()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kept", [0, 0.3, 0.99])
@pytest.mark.parametrize("file", [".bin", ".xml", ".onnx", ".pt2"])
def test_truncated_exports_are_a_one_line_error(files: dict[str, Path], tmp_path: Path, file: str, kept: float) -> None:
    for path in (*files.values(), files["openvino"].with_suffix(".bin")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damaged = tmp_path / f"small{file}"
    os.truncate(damaged, int(damaged.stat().st_size * kept))
    opened = tmp_path / ("small.xml" if file == ".bin" else damaged.name)
    with pytest.raises(UserError, match=rf"{opened.name}: ") as caught:
        open_runtime(opened, trust_code=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '<net><layers><layer id="1" name="x" type="Loop"/></layers></net>',
        "<a>" * 200,
        "<net>" + "<a/>" * 500_001 + "</net>",
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><net>&b;</net>',
        '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><net>&e;</net>',
    ],
    ids=["loop", "deep", "many", "unfolding", "other file"],
)
def test_graphs_that_expand_enormously_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "graph.xml").write_text(text)
    with pytest.raises(UserError, match=r"graph\.xml: (not an OpenVINO model, or cut short|has loops)"):
        read_metadata(tmp_path / "graph.xml")


def test_a_program_without_its_names_is_one_line(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "nameless.pt2"
    with zipfile.ZipFile(files["torch"]) as whole, zipfile.ZipFile(path, "w") as changed:
        for name in whole.namelist():
            changed.writestr(name, b"images" if name.endswith("extra/names") else whole.read(name))
    with pytest.raises(UserError, match=r"nameless\.pt2: not a torch\.export program"):
        open_runtime(path, trust_code=True)


@pytest.mark.parametrize(
    ("key", "value"), [("model.viewport.width", 10**9), ("model.head.num_priors", 10**9), ("name", "../../evil")]
)
def test_settings_in_metadata_are_bounded(files: dict[str, Path], key: str, value: object) -> None:
    tree = json.loads(read_metadata(files["onnx"]).text())
    *groups, leaf = key.split(".")
    branch = tree["config"]
    for group in groups:
        branch = branch[group]
    branch[leaf] = value
    if key == "name":
        assert parse_metadata(json.dumps(tree), "lanes.onnx").config.name == "_.._evil"
        return
    with pytest.raises(UserError, match=rf"lanes\.onnx: .*{value}.* use"):
        parse_metadata(json.dumps(tree), "lanes.onnx")


@pytest.mark.parametrize(("key", "value"), [("batch", 0), ("batch", "x"), ("batch", True), ("precision", "fp7")])
def test_metadata_of_another_kind_is_named(files: dict[str, Path], key: str, value: object) -> None:
    tree = json.loads(read_metadata(files["onnx"]).text()) | {key: value}
    with pytest.raises(UserError, match=rf"lanes\.onnx: metadata\.clrernetlm\.{key}: {value!r}"):
        parse_metadata(json.dumps(tree), "lanes.onnx")


def test_a_failed_openvino_export_leaves_no_single_file(files: dict[str, Path], tmp_path: Path) -> None:
    model, metadata = openvino_model(onnx.load(files["onnx"])), read_metadata(files["onnx"])
    (tmp_path / "lanes.xml").mkdir()
    with pytest.raises(UserError, match=r"lanes\.xml: cannot be written"):
        write_openvino(model, tmp_path / "lanes.xml", metadata)
    assert [path.name for path in tmp_path.iterdir()] == ["lanes.xml"]


def test_a_full_disk_is_one_line_for_a_program(tmp_path: Path) -> None:
    graph = Graph(torch.nn.Linear(200, 200), {"input": torch.zeros(1, 200)}, ("output",), {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # the system now refuses larger files
    try:
        with pytest.raises(UserError, match=r"lanes\.pt2: cannot be written \(File too large\)"):
            write_program(graph, tmp_path / "lanes.pt2", ModelMetadata("detector", "CLRerNet", "fp32", 1, Config()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.iterdir())


def test_nothing_is_exported_from_an_export(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(files["onnx"]), "--to", "openvino"]) == 2
    assert "an exported model, whose weights cannot be taken out" in capsys.readouterr().err


def test_a_misspelt_model_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "roads_detectr"]) == 2
    assert "did you mean roads_detector?" in capsys.readouterr().err


def test_the_command_writes_a_file(
    detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from clrernetlm.weights.safetensors_file import write_packed

    config, model, _ = detector
    monkeypatch.chdir(tmp_path)
    write_packed(model.state_dict(), config, tmp_path / "small.safetensors")
    assert main(["export", "small.safetensors", "--to", "torch", "--out", "small.pt2"]) == 0
    said = capsys.readouterr().out
    assert "detector of small, fp32, 1 image at a time" in said
    assert "it can run code, so opening it needs trust_code" in said
    assert read_metadata("small.pt2").batch == 1
    assert main(["export", "small.safetensors", "--to", "torch", "--precision", "fp16"]) == 2
    assert "fp16 is not offered for torch; use fp32, bf16" in capsys.readouterr().err
