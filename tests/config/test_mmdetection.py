import warnings
from pathlib import Path

import pytest

from clrernetlm.config import load_config
from clrernetlm.config.mmdetection.translate import MmdetectionImport, import_mmdetection
from clrernetlm.core.errors import UserError

FILES = Path(__file__).parent / "mmdetection" / "clrernet"

HEADER = "model = dict(type='CLRerNet')\n"


def translate(tmp_path: Path, text: str, header: str = HEADER) -> MmdetectionImport:
    path = tmp_path / "theirs.py"
    path.write_text(header + text, encoding="utf-8")
    return import_mmdetection(path)


@pytest.mark.parametrize("name", ["clrernet_culane_dla34", "clrernet_culane_dla34_ema"])
def test_original_configs_translate_to_the_project_configs(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        config = load_config(FILES / "culane" / f"{name}.py")
    assert config == load_config(name)
    assert import_mmdetection(FILES / "culane" / f"{name}.py").not_understood == []


def test_the_architecture_of_a_base_config_translates() -> None:
    assert import_mmdetection(FILES / "base_clrernet.py").config.model == load_config("base_clrernet").model


def test_nothing_in_an_mmdetection_file_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    touch = f"open({str(marker)!r}, 'w')"
    (tmp_path / "base.py").write_text(f"{touch}\nmodel = dict(type='CLRerNet', x={touch})\n")
    path = tmp_path / "evil.py"
    path.write_text(
        f"""
_base_ = ["base.py"]
import os; os.system("touch {marker}")
{touch}
train_dataloader = dict(batch_size=__import__("os").system("touch {marker}"), num_workers=(lambda: {touch})())
work_dir = f"{{{touch}}}"
optim_wrapper = dict(optimizer=dict(lr=[{touch} for _ in range(2)][0], weight_decay="x".__class__))
def hook():
    {touch}
if hook() is None:
    {touch}
class Config(metaclass=type({touch})): pass
dict = lambda **_: {touch}
data_root = {touch}.name
""",
        encoding="utf-8",
    )
    with pytest.warns(UserWarning, match=r"^evil\.py: ") as caught:
        config = load_config(path)
    assert not marker.exists()
    told = [str(warning.message) for warning in caught]
    for name in (
        "train_dataloader.batch_size",
        "train_dataloader.num_workers",
        "optim_wrapper.optimizer.lr",
        "work_dir",
    ):
        assert any(line.startswith(f"evil.py: {name}: ") for line in told)
    assert any("`import os` is never run" in line for line in told)
    assert any("base.py, line 1" in line for line in told)
    assert config.training.learning_rate == 6e-4


def test_signature_wins_over_a_variable_called_config(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    path = tmp_path / "both.py"
    path.write_text(f"_base_ = []\nconfig = open({str(marker)!r}, 'w')\n{HEADER}")
    with pytest.warns(UserWarning, match=r"^both\.py: config: "):
        load_config(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("text", "ours", "value"),
    [
        ("train_dataloader = dict(batch_size=3 * 4)", "data.batch_size", 12),
        ("train_dataloader = {'batch_size': 24 // 2}", "data.batch_size", 12),
        ("n = 6\nn += 6\ntrain_dataloader = dict(batch_size=n)", "data.batch_size", 12),
        ("a, b = 3, 12\ntrain_dataloader = dict(batch_size=b, num_workers=a)", "data.batch_size", 12),
        ("x = [1, [12]]\ntrain_dataloader = dict(batch_size=x[-1][0])", "data.batch_size", 12),
        ("x = dict(batch_size=12)\ntrain_dataloader = dict(num_workers=1, **x)", "data.batch_size", 12),
        ("train_dataloader = dict()\ntrain_dataloader['batch_size'] = 12", "data.batch_size", 12),
        ("train_dataloader: dict = dict(batch_size=12)", "data.batch_size", 12),
        ("data = dict(samples_per_gpu=12)", "data.batch_size", 12),
        ("total_epochs = 7", "training.epochs", 7),
        ("total_epochs = 7\nevaluation = dict(interval=total_epochs)", "training.epochs", 7),
        ("runner = dict(type='EpochBasedRunner', max_epochs=7)", "training.epochs", 7),
        ("optimizer = dict(type='AdamW', lr=-(-1e-3))", "training.learning_rate", 1e-3),
        ("optimizer = dict(lr=1e-3, weight_decay=0)", "training.weight_decay", 0.0),
        ("optim_wrapper = dict(type='AmpOptimWrapper')", "training.precision", "16-mixed"),
        ("optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))", "training.clip_norm", 35.0),
        ("optim_wrapper = dict(accumulative_counts=4)", "training.accumulate", 4),
        ("param_scheduler = [dict(type='LinearLR', by_epoch=False, end=500)]", "training.warmup_steps", 500),
        ("lr_config = dict(policy='CosineAnnealing', warmup='linear', warmup_iters=500)", "training.warmup_steps", 500),
        ("lr_config = dict(policy='CosineAnnealing', min_lr=0)", "training.schedule", "cosine"),
        ("lr_config = dict(policy='CosineAnnealing', min_lr=6e-4)", "training.schedule", "constant"),
        (
            "optimizer = dict(lr=1e-3)\nparam_scheduler = [dict(type='CosineAnnealingLR', eta_min=1e-3)]",
            "training.schedule",
            "constant",
        ),
        (
            "custom_hooks = [dict(type='EMAHook', momentum=3e-4, interval=1, begin_epoch=0, strict_load=True)]",
            "training.ema_momentum",
            3e-4,
        ),
        ("custom_hooks = [dict(type='ExpMomentumEMAHook', momentum=2e-4)]", "training.ema_momentum", 2e-4),
        ("default_hooks = dict(checkpoint=dict(max_keep_ckpts=5, interval=1))", "training.keep_checkpoints", 5),
        ("randomness = dict(seed=3, deterministic=True)", "training.deterministic", True),
        ("work_dir = 'runs'", "training.work_dir", "runs"),
        ("model['bbox_head'] = dict(loss_seg=None)", "model.loss.seg_weight", 0.0),
        ("model['backbone'] = dict(type='ResNet', depth=18)", "model.backbone.name", "resnet18"),
        ("model['test_cfg'] = dict(ori_img_w=1280, ori_img_h=720, cut_height=360)", "model.viewport.top", 0.5),
        ("model['test_cfg'] = dict(ori_img_w=1280, ori_img_h=720)", "evaluation.image_size", (1280, 720)),
        ("model['test_cfg'] = dict(nms_topk=16)", "model.max_lanes", 16),
        (
            "train_dataloader = dict(dataset=dict(type='CulaneDataset', data_root='a/b', data_list='a/c.txt'))",
            "data.train_list",
            "../c.txt",
        ),
        (
            "train_dataloader = dict(dataset=dict(type='CulaneDataset', data_list='/c.txt'))",
            "data.train_list",
            "/c.txt",
        ),
        ("train_dataloader = dict(dataset=dict(type='CulaneDataset', data_root='a'))", "data.diff_file", None),
    ],
)
def test_all_supported_ways_of_writing_a_config_are_understood(
    text: str, ours: str, value: object, tmp_path: Path
) -> None:
    result = translate(tmp_path, text)
    found: object = result.config
    for part in ours.split("."):
        found = getattr(found, part)
    assert found == value
    assert result.not_understood == []


def test_pipeline_without_an_augmentation_switches_it_off(tmp_path: Path) -> None:
    steps = "dict(type='HorizontalFlip', p=0.25), dict(type='ChannelShuffle')"
    pipeline = f"[dict(type='albumentation', pipelines=[{steps}]), dict(type='PackCLRNetInputs')]"
    result = translate(tmp_path, f"train_dataloader = dict(dataset=dict(type='CulaneDataset', pipeline={pipeline}))")
    augmentation = result.config.data.augmentation
    assert (augmentation.flip, augmentation.channel_shuffle) == (0.25, 0.5)
    assert (augmentation.hsv, augmentation.blur, augmentation.affine, augmentation.brightness_contrast) == (0, 0, 0, 0)
    assert (result.config.model.viewport.top, result.config.model.viewport.bottom) == (0, 1)
    assert result.not_understood == []


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        (
            "optimizer = dict(type='SGD')",
            "optim_wrapper.optimizer.type",
            "'SGD' is not supported; it is always",
        ),
        ("model['neck'] = dict(type='FPN')", "model.neck.type", "always 'CLRerNetFPN'"),
        ("model['bbox_head'] = dict(new_trick=True)", "model.bbox_head.new_trick", "has no counterpart"),
        (
            "model['bbox_head'] = dict(num_fc='two')",
            "model.bbox_head.num_fc",
            "'two' is not an int",
        ),
        ("model['backbone'] = dict(dla='dla60')", "model.backbone.dla", "'dla60' is not one of dla34"),
        (
            "model.update(bbox_head=dict(loss_iou=dict(type='CLRNetIoULoss')))",
            "line 2",
            "is never run",
        ),
        ("custom_hooks = [dict(type='MyHook', x=1)]", "custom_hooks.MyHook.x", "has no counterpart"),
        ("load_from = 'weights.pth'", "load_from", "is not supported"),
        ("surprise = 3", "surprise", "has no counterpart"),
        ("train_dataloader = dict(batch_size=N)", "train_dataloader.batch_size", "the name N is not defined above"),
        ("train_dataloader = dict(batch_size=1 / 0)", "train_dataloader.batch_size", "line 2: `1 / 0` fails"),
        ("train_dataloader = dict(batch_size=9 ** 9 ** 9)", "train_dataloader.batch_size", "too large a number"),
        ("x = [0] * 10 ** 9\ntrain_dataloader = dict(batch_size=x[0])", "train_dataloader.batch_size", "not known"),
        (
            "train_cfg = dict(max_epochs=15)\nparam_scheduler = [dict(type='CosineAnnealingLR', T_max=9)]",
            "param_scheduler.CosineAnnealingLR.T_max",
            "9 has no counterpart",
        ),
        ("custom_hooks = [dict(type='EMAHook', begin_epoch=5)]", "custom_hooks.EMAHook.begin_epoch", "it is always 0"),
        ("lr_config = dict(policy='CosineAnnealing', min_lr=1e-6)", "lr_config.min_lr", "it is always 0"),
        (
            "model['test_cfg'] = dict(nms_topk=16)\nmodel['bbox_head'] = dict(loss_seg=dict(num_classes=5))",
            "model.bbox_head.loss_seg.num_classes",
            "4 differs from model.test_cfg.nms_topk = 16, which is used",
        ),
        ("model['test_cfg'] = dict(ori_img_h=590, cut_height=600)", "model.viewport", "CULane's is used"),
    ],
)
def test_settings_that_are_not_understood_are_named(text: str, name: str, reason: str, tmp_path: Path) -> None:
    found = dict(translate(tmp_path, text).not_understood)
    assert reason in found[name]


def test_a_choice_of_other_augmentations_is_not_translated_to_blur(tmp_path: Path) -> None:
    choice = "dict(type='OneOf', transforms=[dict(type='RGBShift', p=1.0)], p=0.7)"
    pipeline = f"[dict(type='albumentation', pipelines=[{choice}])]"
    result = translate(tmp_path, f"train_dataloader = dict(dataset=dict(pipeline={pipeline}))")
    assert result.config.data.augmentation.blur == 0
    assert any("OneOf(RGBShift).p" in name for name, _ in result.not_understood)


def test_other_image_sizes_in_validation_are_named(tmp_path: Path) -> None:
    def loader(width: int) -> str:
        steps = f"[dict(type='albumentation', pipelines=[dict(type='Resize', width={width}, height=320)])]"
        return f"dict(dataset=dict(pipeline={steps}))"

    result = translate(tmp_path, f"train_dataloader = {loader(800)}\nval_dataloader = {loader(640)}")
    assert [name for name, _ in result.not_understood] == ["val_dataloader.dataset.pipeline.albumentation.Resize.width"]


def test_base_files_and_deletions_are_applied(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        HEADER + "size = (640, 256)\nmodel['test_cfg'] = dict(conf_threshold=0.3, nms_thres=40)\n"
        "optimizer = dict(type='AdamW', lr=1e-3, weight_decay=0.2)\nrate = 2e-3"
    )
    result = translate(
        tmp_path,
        "_base_ = './a.py'\nmodel = dict(test_cfg=dict(nms_thres=30), bbox_head=dict(img_w=_base_.size[0], "
        "img_h={{_base_.size}}[1]))\noptimizer = dict(_delete_=True, lr='{{_base_.rate}}')",
        header="",
    )
    model = result.config.model
    assert (model.decode.conf_threshold, model.decode.nms_threshold) == (0.3, 30)  # merged
    assert (model.viewport.width, model.viewport.height) == (640, 256)
    assert (result.config.training.learning_rate, result.config.training.weight_decay) == (2e-3, 0.01)  # deleted
    assert result.not_understood == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("_base_ = ['gone.py']", "theirs.py, line 1: _base_ file gone.py not found"),
        ("_base_ = ['theirs.py']", "is its own _base_"),
        ("_base_ = [print()]", "line 1: _base_ is not a list of file names"),
        ("_base_ = ['ours.py']", "is a config of clrernetlm"),
        ("_base_ = []\nmodel = dict(type='LaneATT')", "model.type is 'LaneATT'; only CLRerNet"),
        ("model = dict(type='CLRerNet', x=)", "theirs.py, line 1: not valid Python"),
        ("model = dict(type='CLRerNet', x=[dict(type='A')])\nmodel['x'][0]['y'] = model['x']", "contains itself"),
        ("model = dict(type='CLRerNet')\nmodel['x'] = model", "contains itself"),
    ],
)
def test_files_that_cannot_be_imported(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "ours.py").write_text("from clrernetlm.config import Config\nconfig = Config()")
    with pytest.raises(UserError) as caught:
        translate(tmp_path, text, header="")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_project_configs_can_load_mmdetection_configs(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(HEADER + "train_dataloader = dict(batch_size=12)")
    ours = tmp_path / "ours.py"
    ours.write_text(
        "from clrernetlm.config import load_config\nconfig = load_config('theirs.py')\nconfig.data.num_workers = 1"
    )
    config = load_config(ours)
    assert (config.data.batch_size, config.data.num_workers) == (12, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = [1] * 5000\n" + "a = [a, a]\n" * 40, "more than 100000 values; write it out"),
        ("a = dict(x=1)\n" + "a = dict(p=a, q=a)\n" * 40, "more than 100000 values; write it out"),
        ("".join(f"a = {{**a, 'k{i}': a}}\n" if i else "a = {}\n" for i in range(45)), "more than 100000 values"),
        ("a = [0] * 10000\nb = " + "[*a]," * 200, "more than 1000000 items and characters built; write it out"),
        ("a = 'x' * 5000\nb = [" + "a + 'x'," * 300 + "]", "more than 1000000 items and characters built"),
        ("a = []\n" + "a = [a]\n" * 1000, "inside more than 50 others"),
        ("x = 1\n" * 20_000, "more than 10000 statements"),
        ("#" * (1 << 20), "larger than 1 MB"),
    ],
)
def test_files_with_too_many_values_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"theirs\.py: .*{message}"):
        translate(tmp_path, text)


@pytest.mark.parametrize(
    "text",
    [
        "a = [1] * 9000\n" + "a = [*a, *a]\n" * 40,
        "a = 'x' * 9000\n" + "a = a + a\n" * 40,
        "a = {}\n" + "".join(f"a = {{**a, '{i}': 1}}\n" for i in range(99)),
        "a = ()\n" + "a = (a, a)\n" * 45 + "b = {a: 1}\nb[a] = 1\nc = b[a]\na = 1\n",  # hashing a takes years
        "total_epochs = (10 ** 100) ** 64\n",
        "total_epochs = 0x" + "f" * 10_000 + "\n",
        "model['test_cfg'] = dict(ori_img_w=(10 ** 100) ** 64, ori_img_h=1, cut_height=(10 ** 100) ** 64)\n",
        "test_dataloader = dict(dataset=dict(pipeline=[dict(type='A')] * 10000))\n",
    ],
)
def test_expressions_of_huge_results_are_not_understood(text: str, tmp_path: Path) -> None:
    translated = translate(tmp_path, text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        translated.warn()
    assert len(caught) <= 201


def test_substitution_of_base_values_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text("a = 'x' * 9000\n")
    translated = translate(tmp_path, "_base_ = 'base.py'\nwork_dir = '" + "{{_base_.a}}" * 1000 + "'\n")
    assert ("work_dir", "line 3: filling in builds something too long") in translated.not_understood


def test_the_number_of_base_files_is_limited(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"base{number}.py").write_text(f"_base_ = ['base{number + 1}.py'] * 10\n")
    (tmp_path / "base12.py").write_text("a = 1\n")
    with pytest.raises(UserError, match=r"theirs\.py: builds on more than 100 files"):
        translate(tmp_path, "_base_ = 'base0.py'\n")
