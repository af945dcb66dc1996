import contextlib
import io
import os
import pickle
import resource
import signal
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from clrernetlm.config import BackboneConfig, ClrernetConfig, Config
from clrernetlm.core.errors import UserError
from clrernetlm.core.viewport import Viewport
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.clrernet.state_dict import ANCHORS
from clrernetlm.weights import safe_unpickler
from clrernetlm.weights.build_models import init_detector
from clrernetlm.weights.checkpoint import load_weights, read_checkpoint, save_official, start_from_weights

CONFIG = ClrernetConfig(backbone=BackboneConfig("dla46_c"), viewport=Viewport(width=160, height=96))


class HistoryBuffer:
    """A class of another training engine: state, a constructor with arguments, and a list and dict to be filled."""

    def __init__(self, values):
        self.values = np.asarray(values)


class ConfigDict(dict):
    pass


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return CLRerNet(CONFIG).eval()


@pytest.fixture(params=[True, False], ids=["zip", "legacy"])
def save(request):
    return lambda value, path: torch.save(value, path, _use_new_zipfile_serialization=request.param)


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def refusal(function, *arguments):
    with pytest.raises(UserError) as error:
        function(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_published_checkpoints_load_without_their_foreign_objects(model, tmp_path, save):
    file = tmp_path / "released.pth"
    foreign = {"message_hub": {"loss": HistoryBuffer([1.0, 2.0])}, "cfg": ConfigDict(a=1), "rng": np.arange(3.0)}
    save({"meta": foreign, "state_dict": OrderedDict(model.official_state_dict())}, file)
    assert isinstance(read_checkpoint(file)["meta"]["message_hub"]["loss"], safe_unpickler.Placeholder)
    assert same_weights(init_detector(CONFIG, file), model)


def test_parameters_views_and_shared_memory_are_rebuilt(tmp_path, save):
    base = torch.arange(12.0).view(3, 4)
    stored = {"view": base.T[1:], "parameter": torch.nn.Parameter(base), "half": base.half(), "n": HistoryBuffer([1])}
    save(stored, tmp_path / "views.pth")
    read = read_checkpoint(tmp_path / "views.pth")
    assert torch.equal(read["view"], base.T[1:])
    assert torch.equal(read["parameter"], base)
    assert torch.equal(read["half"], base.half())


@pytest.mark.parametrize("place", ["meta", "state_dict", "whole", "tensor"])
def test_a_malicious_checkpoint_runs_no_code(model, tmp_path, save, place):
    marker, file = tmp_path / "executed", tmp_path / "evil.pth"
    code = f"open({str(marker)!r}, 'w').close()"
    evil = [
        Calls(os.system, f"touch {marker}"),
        Calls(eval, code),
        Calls(exec, code),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(list, Calls(map, exec, [code])),
        Calls(torch.load, str(file)),
        Calls(pickle.loads, pickle.dumps(Calls(exec, code))),
    ]
    weights = dict(model.official_state_dict())
    checkpoint = {"meta": {}, "state_dict": weights}
    if place == "meta":
        checkpoint["meta"] = {"nested": [evil, {"deep": tuple(evil)}]}
    elif place == "state_dict":
        weights["bbox_head.evil"] = evil
    elif place == "tensor":
        weights["neck.fpn_convs.0.conv.bias"] = evil[1]
    save(evil if place == "whole" else checkpoint, file)

    if place == "whole":
        assert "holds no dictionary of weights" in refusal(init_detector, CONFIG, file)
    elif place == "tensor":
        assert "1 missing (neck.fpn_convs.0.conv.bias)" in refusal(init_detector, CONFIG, file)
    else:
        assert same_weights(init_detector(CONFIG, file), model)
    assert not marker.exists()
    # Read with the ordinary unpickler, the same file runs its code.
    with contextlib.suppress(Exception):
        torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'{command}'\ntR.",
        b"(S'{command}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'{command}'\no.",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(S'{command}'\ntR.",  # STACK_GLOBAL
        b"\x80\x04\x8c\x08builtins\x8c\x0c__import__.x\x93(S'{command}'\ntR.",
        b"\x80\x02ccollections\nOrderedDict\n}S'_build'\ncos\nsystem\nsb(S'{command}'\ntR.",  # BUILD on a builder
        b"\x80\x02ccollections\nOrderedDict\n(N}S'_build'\ncos\nsystem\nstb(S'{command}'\ntR.",  # with slot state
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(cos\nsystem\nK\x00)))tR.",
    ],
)
def test_hand_written_pickles_run_no_code(program, tmp_path):
    marker = tmp_path / "executed"
    stream = io.BytesIO(program.replace(b"{command}", f"touch {marker}".encode()))
    builders = {name: builder._build for name, builder in safe_unpickler._ALLOWED.items()}
    with contextlib.suppress(pickle.UnpicklingError, AttributeError, TypeError):  # these may be refused
        assert not isinstance(safe_unpickler.load(stream), int)  # what os.system returns
    assert not marker.exists()
    assert {name: builder._build for name, builder in safe_unpickler._ALLOWED.items()} == builders


def test_a_file_that_is_no_checkpoint_is_refused_by_name(model, tmp_path):
    file = tmp_path / "some.pth"
    assert refusal(read_checkpoint, file) == f"{file}: no such checkpoint; check the path"
    assert "a folder, not a checkpoint" in refusal(read_checkpoint, tmp_path)
    for content in (b"", b"\x00" * 100, b"not a checkpoint\n" * 50, b"PK\x03\x04" + b"\x00" * 200, pickle.dumps([1])):
        file.write_bytes(content)
        assert refusal(read_checkpoint, file).startswith(f"{file}: ")
    torch.save([1, 2], file)
    assert "holds no dictionary of weights" in refusal(read_checkpoint, file)
    torch.save(model, file)
    assert "save model.state_dict(), not the model itself" in refusal(read_checkpoint, file)
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), file)
    assert "TorchScript" in refusal(read_checkpoint, file)
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    assert "not a checkpoint, or cut short" in refusal(read_checkpoint, tmp_path / "x.safetensors")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99, 0.9999])
def test_truncated_files_are_refused(model, tmp_path, save, kept):
    file = tmp_path / "cut.pth"
    save({"state_dict": dict(model.state_dict()), "meta": HistoryBuffer([1])}, file)
    os.truncate(file, int(file.stat().st_size * kept))
    assert refusal(load_weights, model, file).startswith(f"{file}: not a checkpoint, or cut short")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    zipped=st.booleans(),
    damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_files_are_read_or_refused_and_never_crash(zipped, damage, tmp_path):
    file = tmp_path / "damaged.pth"
    torch.save({"a": torch.arange(4.0), "b": HistoryBuffer([1])}, file, _use_new_zipfile_serialization=zipped)
    content = bytearray(file.read_bytes())
    for position, value in damage:
        content[int(position * len(content))] = value
    file.write_bytes(content)
    with contextlib.suppress(UserError):
        assert isinstance(read_checkpoint(file), dict)


def test_all_file_formats_give_the_same_weights(model, tmp_path):
    plain, training, tensors, official = (tmp_path / name for name in ("a.pth", "b.ckpt", "c.safetensors", "d.pth"))
    torch.save(model.state_dict(), plain)
    prefixed = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": prefixed, "config": {"name": "x"}, "epoch": 3, "optimizer_states": []}, training)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, tensors)
    save_official(model, official, meta={"epoch": 3})
    for file in (plain, training, tensors, official):
        fresh = CLRerNet(CONFIG)
        rest = load_weights(fresh, file)
        assert same_weights(fresh, model), file
        assert not any(isinstance(value, torch.Tensor) for value in rest.values())
        if file == training:
            assert rest["config"] == {"name": "x"}
    assert list(read_checkpoint(official)["state_dict"]) == list(model.official_state_dict())


def test_a_refused_checkpoint_is_named_with_the_reason(tmp_path):
    file = tmp_path / "other.pth"
    save_official(CLRerNet(ClrernetConfig(backbone=BackboneConfig("resnet18"))), file)
    message = refusal(init_detector, CONFIG, file)
    assert message.startswith(f"{file}: ")
    assert "model.backbone.name=resnet18, the configuration says dla46_c" in message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_that_are_not_finite_are_named(model, tmp_path, suffix, bad):
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    weights["bbox_head.cls_layers.bias"][1] = bad
    file = tmp_path / f"diverged{suffix}"
    save_file(weights, file) if suffix == ".safetensors" else torch.save(weights, file)
    message = refusal(init_detector, CONFIG, file)
    assert message.startswith(f"{file}: state_dict: bbox_head.cls_layers.bias is not finite: the training diverged")


def test_a_full_disk_leaves_the_old_file(model, tmp_path):
    file = tmp_path / "weights.pth"
    file.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        message = refusal(save_official, model, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert message.startswith(f"{file}: cannot be written")
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["weights.pth"]


def test_detectors_are_ready_to_detect_and_download_nothing(monkeypatch):
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *a, **k: pytest.fail("tried to download"))
    config = ClrernetConfig(backbone=BackboneConfig("dla46_c", pretrained=True), viewport=CONFIG.viewport)
    for kind in (config, Config(model=config)):
        detector = init_detector(kind, "random", device="auto" if not torch.cuda.is_available() else "cpu")
        assert not any(module.training for module in detector.modules())
        with torch.no_grad():
            assert detector(torch.rand(1, 3, 96, 160))[-1]["xs"].shape == (1, 192, 72)


@pytest.mark.parametrize("device", ["cuda:99", "tpu", "cuda:x", ""])
def test_missing_devices_are_refused(device):
    assert refusal(init_detector, CONFIG, None, device).startswith("device: ")


def test_nested_prefixes_are_removed_up_to_a_limit(model, tmp_path):
    file = tmp_path / "wrapped.pth"
    torch.save({"module." * 50_000 + name: torch.zeros(1) for name in ("backbone.x", "neck.x")}, file)
    assert "these are not the weights of a CLRerNet" in refusal(load_weights, model, file)
    torch.save({f"module._orig_mod.model.{name}": value for name, value in model.state_dict().items()}, file)
    load_weights(model, file)


@pytest.mark.parametrize("holder", ["state_dict", "model_state_dict", "model", "net", "network"])
def test_weights_are_found_under_the_keys_that_training_programs_use(model, holder, tmp_path):
    path = tmp_path / "weights.pth"
    named = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({holder: named, "optimizer": {"state": {}}, "epoch": 3}, path)
    other = CLRerNet(CONFIG)
    kept = load_weights(other, path)
    assert same_weights(other, model)
    assert kept["epoch"] == 3
    assert holder not in kept


def test_weights_are_found_in_a_dict_in_a_dict(model, tmp_path):
    torch.save({"model": {"state_dict": model.state_dict()}}, tmp_path / "weights.pth")
    other = CLRerNet(CONFIG)
    load_weights(other, tmp_path / "weights.pth")
    assert same_weights(other, model)


def test_step_counters_of_batch_norm_may_be_missing(model, tmp_path):
    weights = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(weights) < len(model.state_dict())
    torch.save(weights, tmp_path / "weights.pth")
    other = CLRerNet(CONFIG)
    load_weights(other, tmp_path / "weights.pth")
    assert same_weights(other, model)


def test_init_from_loads_the_weights_that_fit_another_head(model, tmp_path):
    weights = {name.replace("bbox_head.", "heads."): value for name, value in model.state_dict().items()}
    torch.save({"net": weights}, tmp_path / "clrnet.pth")
    other = CLRerNet(CONFIG)
    head = {name: value.clone() for name, value in other.state_dict().items() if name.startswith("bbox_head.")}
    with pytest.warns(UserWarning, match=r"weights fit this configuration; .* afresh: bbox_head.*not used of the file"):
        left = start_from_weights(other, tmp_path / "clrnet.pth")
    assert {name for name in left if not name.endswith("num_batches_tracked")} <= set(head)
    after = other.state_dict()
    assert all(torch.equal(after[name], value) for name, value in head.items())
    assert all(torch.equal(after[name], value) for name, value in model.state_dict().items() if name not in head)


def test_init_from_fills_up_missing_anchors(model, tmp_path):
    save_official(model, tmp_path / "weights.pth")
    fewer = CLRerNet(replace(CONFIG, head=replace(CONFIG.head, num_priors=CONFIG.head.num_priors // 2)))
    with pytest.warns(UserWarning, match="bbox_head.anchor_generator"):
        left = start_from_weights(fewer, tmp_path / "weights.pth")
    assert ANCHORS in left


def test_init_from_refuses_another_backbone(model, tmp_path):
    save_official(model, tmp_path / "weights.pth")
    other = CLRerNet(ClrernetConfig(backbone=BackboneConfig("resnet18"), viewport=CONFIG.viewport))
    before = {name: value.clone() for name, value in other.state_dict().items()}
    with pytest.raises(UserError, match=r"backbone does not fit; they belong to model.backbone.name=dla46_c"):
        start_from_weights(other, tmp_path / "weights.pth")
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@pytest.mark.parametrize("prefix", ["net.", "network.module."])
def test_prefixes_of_other_training_programs_are_removed(model, prefix, tmp_path):
    torch.save({f"{prefix}{name}": value for name, value in model.state_dict().items()}, tmp_path / "weights.pth")
    other = CLRerNet(CONFIG)
    load_weights(other, tmp_path / "weights.pth")
    assert same_weights(other, model)


def test_init_from_without_weights_names_the_file(model, tmp_path):
    torch.save({"model": {}, "epoch": 3}, tmp_path / "empty.pth")
    assert refusal(start_from_weights, model, tmp_path / "empty.pth").startswith(
        f"{tmp_path}/empty.pth: state_dict: no"
    )
