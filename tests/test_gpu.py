"""On a GPU: no tensor stays on the host, the host never waits before there is a result, and results equal the CPU's.

The GPU is simulated; `tests.helpers.simulated_gpu` lists what that cannot show.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import fields, replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from clrernetlm import Predictor
from clrernetlm.config import AssignerConfig, BackboneConfig, ClrernetConfig, Config, LaneLMConfig, LaneLMNetworkConfig
from clrernetlm.core.lane import Lane
from clrernetlm.evaluation import speed
from clrernetlm.models.backbones.registry import BACKBONES
from clrernetlm.models.clrernet.criterion import CLRerNetCriterion
from clrernetlm.models.clrernet.decode import decode_lanes
from clrernetlm.models.clrernet.detector import CLRerNet
from clrernetlm.models.fusing import fuse
from clrernetlm.models.lanelm import cuda_graph
from clrernetlm.models.lanelm.attention import grid_sinusoids
from clrernetlm.models.lanelm.cached_decoding import fuse_for_inference
from clrernetlm.models.lanelm.generate import generate
from clrernetlm.models.lanelm.greedy_decoding import Answers
from clrernetlm.models.lanelm.model import LaneLM
from clrernetlm.models.lanelm.postprocess import remove_hallucinations
from clrernetlm.models.lanelm.proposals import Proposals
from clrernetlm.models.lanelm.prototype import PlainLaneLMDetector
from clrernetlm.models.lanelm.requests import (
    Requests,
    requests_from_clicks,
    requests_from_proposals,
    requests_from_start_points,
)
from clrernetlm.models.lanelm.training_requests import DRAWS, num_candidates
from clrernetlm.models.pixel_scaling import network_input
from clrernetlm.training.ema import ModelEma
from clrernetlm.training.lanelm_module import LaneLMModule, PlainLaneLMModule
from clrernetlm.weights.build_models import init_lanelm_detector, save_lanelm
from tests.helpers.golden_weights import golden_masks, golden_targets
from tests.helpers.lanelm_networks import random_levels, random_requests, small_lanelm
from tests.helpers.simulated_gpu import DeviceMix, SimulatedGpu, simulate_cuda_graphs
from tests.helpers.small_detector import seeded_detector
from tests.helpers.small_lanelm import random_lanelm_detector, small_lanelm_config


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    """A simulated GPU with values."""
    with SimulatedGpu() as gpu:
        yield gpu


@pytest.fixture
def shapes() -> Iterator[SimulatedGpu]:
    """A simulated GPU with shapes only, on which models of full size are fast and whole backward passes are checked."""
    with SimulatedGpu("cuda:7", without_values=True) as gpu:
        yield gpu
        assert gpu.operations > 10, "nothing was computed there"


def everything(value: object) -> Iterator[Tensor]:
    """Yield all tensors in results of any kind."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from everything(part)
    elif isinstance(value, Requests | Answers | Proposals):
        for item in fields(value):
            yield from everything(getattr(value, item.name))


def on_gpu_alone(gpu: SimulatedGpu, *results: object) -> None:
    """Check that all results are on the GPU, and that the host has not waited for it."""
    tensors = list(everything(results))
    assert tensors
    assert all(gpu.holds(tensor) for tensor in tensors)
    assert gpu.waits == []


def close(gpu: SimulatedGpu, there: object, here: object, atol: float = 1e-5) -> None:
    """Check that the numbers on the GPU equal those on the CPU."""
    pairs = list(zip(everything(there), everything(here), strict=True))
    assert pairs
    for one, other in pairs:
        assert gpu.holds(one)
        torch.testing.assert_close(one.cpu(), other, rtol=1e-5, atol=atol, equal_nan=True)


# The simulated GPU itself


@pytest.mark.parametrize("without_values", [False, True])
@pytest.mark.parametrize(
    "mixes",
    [
        lambda x: x + torch.zeros(3),
        lambda x: torch.cat([x, torch.from_numpy(np.zeros(3, np.float32))]),
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x * torch.tensor(2.0),
        lambda x: torch.nn.Linear(3, 2)(x),
    ],
    ids=["sum", "list", "index", "number", "layer left behind"],
)
def test_mixing_devices_is_detected(mixes: Callable[[Tensor], Tensor], without_values: bool) -> None:
    with SimulatedGpu(without_values=without_values):
        x = torch.ones(3, device="cuda")
        with pytest.raises(DeviceMix):
            mixes(x)


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).any()),
        lambda x: float(x.sum()),
        lambda x: x.tolist(),
        lambda x: x[x > 0],
        lambda x: (x > 0).nonzero(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: torch.zeros(3).copy_(x),
    ],
    ids=["item", "bool", "float", "list", "mask", "nonzero", "cpu", "to", "copy"],
)
def test_waiting_for_the_gpu_is_detected(waits: Callable[[Tensor], object]) -> None:
    with SimulatedGpu() as gpu:
        waits(torch.ones(3, device="cuda"))
        assert len(gpu.waits) == 1
    with SimulatedGpu(without_values=True), pytest.raises((RuntimeError, NotImplementedError)):
        waits(torch.ones(3, device="cuda"))


def test_waiting_for_a_copy_to_the_gpu_is_detected(gpu: SimulatedGpu) -> None:
    x = torch.ones(3).to("cuda:0")
    y = torch.tensor([1.0], device=x.device)
    x.copy_(torch.zeros(3))
    assert gpu.waits == ["to", "tensor", "copy_"]
    x.copy_(torch.zeros(3), non_blocking=True)
    z = torch.ones(3).to(x.device, non_blocking=True)
    assert len(gpu.waits) == 3
    assert {tensor.device for tensor in (x, y, z, x + y, z.new_zeros(2), torch.nn.Parameter(x))} == {gpu.device}


# CLRerNet


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_detector_computes_on_the_gpu_only(backbone: str, shapes: SimulatedGpu) -> None:
    model = CLRerNet(ClrernetConfig(backbone=BackboneConfig(backbone))).to("cuda").eval()
    images = torch.zeros(2, 3, 320, 800, dtype=torch.uint8, device="cuda")
    shapes.waits.clear()
    with torch.inference_mode():
        features = model.extract_feat(network_input(images))
        on_gpu_alone(shapes, features, model.bbox_head(features))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_fused_detector_predicts_on_the_gpu_what_the_plain_one_does_on_the_cpu(
    backbone: str, gpu: SimulatedGpu
) -> None:
    model, images = seeded_detector(backbone), torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = model(images)
        fast, images = fuse(deepcopy(model).to("cuda")), images.to("cuda")
        gpu.waits.clear()
        fused = fast(images)
        on_gpu_alone(gpu, fused)
        close(gpu, fused, plain)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_computes_on_the_gpu_only(precision: str, gpu: SimulatedGpu) -> None:
    fast, images = fuse(seeded_detector("dla46_c").to("cuda"), precision), torch.rand(1, 3, 96, 160).to("cuda")
    gpu.waits.clear()
    with torch.inference_mode():
        on_gpu_alone(gpu, fast(images))


def test_predictions_are_copied_to_the_host_once(gpu: SimulatedGpu) -> None:
    model, images = seeded_detector("dla46_c"), torch.rand(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    decode = replace(model.config.decode, conf_threshold=0.0)
    torch.nn.init.constant_(model.bbox_head.reg_layers.bias[3:4], 0.75)  # of the rows a lane is long

    def lanes(model: CLRerNet, images: Tensor) -> list[np.ndarray]:
        with torch.inference_mode():
            found = decode_lanes(model(images)[-1], decode, model.config.viewport, [(160, 96)] * 2)
        return [lane.points for image in found for lane in image]

    here = lanes(model, images)
    model, images = model.to("cuda"), images.to("cuda")
    gpu.waits.clear()
    there = lanes(model, images)
    assert gpu.waits == ["cpu"]
    assert len(here) == len(there) > 0
    for one, other in zip(here, there, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-3)


def test_averaged_weights_are_on_the_gpu(gpu: SimulatedGpu) -> None:
    model, trainer = LightningModule(), Mock(global_step=0)
    model.layer = torch.nn.Linear(3, 3)
    average = ModelEma(0.1, torch.device("cuda"))
    average.setup(trainer, model, "fit")  # Lightning calls this first
    model.to("cuda")
    gpu.waits.clear()
    for step in (1, 2, 3):
        trainer.global_step = step
        average.on_train_batch_end(trainer, model, None, None, step)
    assert gpu.waits.count("__bool__") == len(gpu.waits)  # PyTorch reads the number of steps


ASSIGNERS = [AssignerConfig(), AssignerConfig(cost_combination=0), AssignerConfig(assign_unmatched=True)]


@pytest.mark.parametrize("assigner", ASSIGNERS, ids=["CLRerNet", "CLRNet", "rescue"])
def test_a_training_step_of_the_detector_never_waits(assigner: AssignerConfig, shapes: SimulatedGpu) -> None:
    model = CLRerNet(ClrernetConfig(backbone=BackboneConfig("efficientnet_lite0"))).to("cuda").train()
    criterion = CLRerNetCriterion(assigner=assigner, max_lanes=4)
    images = torch.zeros(2, 3, 320, 800, dtype=torch.uint8, device="cuda")
    targets, masks = torch.zeros(2, 4, 78, device="cuda"), torch.zeros(2, 320, 800, dtype=torch.uint8, device="cuda")
    shapes.waits.clear()
    features = model.extract_feat(network_input(images))
    losses = criterion(model.bbox_head(features), targets, model.segment(features), masks)
    torch.stack(list(losses.values())).sum().backward()
    on_gpu_alone(shapes, losses, [parameter.grad for parameter in model.parameters()])


@pytest.mark.parametrize("assigner", ASSIGNERS, ids=["CLRerNet", "CLRNet", "rescue"])
def test_losses_and_gradients_on_the_gpu_are_those_of_the_cpu(assigner: AssignerConfig, gpu: SimulatedGpu) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = {"cls_logits": 2, "anchor_params": 3, "lengths": 1, "xs": 72}
    stage = {name: torch.rand(2, 48, size, generator=generator) for name, size in drawn.items()}
    logits = torch.rand(2, 5, 320, 800, generator=generator)
    given = (golden_targets(3, 4), golden_masks(3, 4))
    criterion = CLRerNetCriterion(assigner=assigner, max_lanes=4)

    def losses(*inputs: Tensor) -> tuple[dict[str, Tensor], list[Tensor | None]]:
        *parts, logits, targets, masks = inputs
        parts = [part.detach().requires_grad_() for part in (*parts, logits)]
        found = criterion([dict(zip(stage, parts, strict=False))], targets, parts[-1], masks)
        torch.stack(list(found.values())).sum().backward()
        return found, [part.grad for part in parts]

    here = losses(*stage.values(), logits, *given)
    inputs = [value.to("cuda") for value in (*stage.values(), logits, *given)]
    gpu.waits.clear()
    there = losses(*inputs)
    on_gpu_alone(gpu, there)
    close(gpu, there, here)
    assert all(gradient is not None and gradient.any() for gradient in here[1])


# LaneLM

STEPS = 6  # of the language model where there are no values


def lanelm_config(kind: str = "full") -> Config:
    return Config(
        task="lanelm",
        model=ClrernetConfig(backbone=BackboneConfig("dla46_c")),
        lanelm=LaneLMConfig(variant=kind, network=LaneLMNetworkConfig(num_steps=STEPS)),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("module", [LaneLMModule, PlainLaneLMModule])
def test_a_training_step_of_lanelm_never_waits(module: type[LaneLMModule], shapes: SimulatedGpu) -> None:
    config = lanelm_config("plain" if module is PlainLaneLMModule else "full")
    lanes, proposed = config.model.max_lanes, config.lanelm.decode.max_proposals
    trained = module(config)
    trained.model.to("cuda").train()

    def random(*shape: int) -> Tensor:
        return torch.rand(2, *shape, device="cuda")

    tokens = torch.zeros(2, lanes, STEPS, dtype=torch.int64, device="cuda")
    batch = {
        "lane_xs": random(lanes, STEPS),
        "lane_tokens_x": tokens,
        "lane_tokens_y": tokens,
        "draws": random(num_candidates(proposed, lanes), DRAWS + STEPS),
        "proposal_xs": random(proposed, STEPS),
        "proposal_shown": random(proposed, STEPS) > 0.5,
        "proposal_scores": random(proposed),
        **{f"level_{i}": random(64, 40 >> i, 100 >> i).half() for i in range(3)},
    }
    shapes.waits.clear()
    losses = trained.losses(batch)
    torch.stack(list(losses.values())).sum().backward()
    on_gpu_alone(shapes, losses, [parameter.grad for parameter in trained.model.lanelm.parameters()])


def test_image_encoding_and_decoding_never_wait(shapes: SimulatedGpu) -> None:
    reader = LaneLMModule(lanelm_config()).model.to("cuda").eval()
    assert isinstance(reader.lanelm, LaneLM)
    images = torch.zeros(2, 3, 320, 800, device="cuda")
    proposals = Proposals(*(torch.zeros(2, 5, *size, device="cuda") for size in ((STEPS,), (STEPS,), ())))
    proposals.visible = proposals.visible.bool()
    clicks, there = torch.zeros(2, 3, 2, 2, device="cuda"), torch.ones(2, 3, 2, dtype=torch.bool, device="cuda")
    rows = reader.lanelm.rows
    shapes.waits.clear()
    with torch.inference_mode():
        levels = reader.run_detector(images).levels
        for requests in (
            requests_from_proposals(proposals),
            requests_from_start_points(proposals, rows),
            requests_from_clicks(proposals, clicks, there, rows, 40.0),
        ):
            answers = reader.answer(levels, requests)
            on_gpu_alone(shapes, levels, requests, answers, remove_hallucinations(answers, True))


def test_lanes_are_decoded_with_one_wait(gpu: SimulatedGpu, files: tuple[Config, str]) -> None:
    """The wait is for the detector's predictions, which the host converts to proposals."""
    here = init_lanelm_detector(*files)
    there, images = deepcopy(here).to("cuda"), torch.rand(2, 3, 64, 160, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = here.decode_unprompted(here.run_detector(images))
        images = images.to("cuda")
        gpu.waits.clear()
        answers = there.decode_unprompted(there.run_detector(images))
    assert gpu.waits == ["cpu"]
    same_lanes(answers, plain)


def test_the_plain_variant_never_waits(shapes: SimulatedGpu) -> None:
    reader = PlainLaneLMDetector(lanelm_config("plain")).to("cuda").eval()
    images = torch.zeros(2, 3, 320, 800, device="cuda")
    shapes.waits.clear()
    with torch.inference_mode():
        on_gpu_alone(shapes, reader.decode_unprompted(reader.run_detector(images)))


def moved(model: LaneLM, levels: tuple[Tensor, ...], requests: Requests) -> tuple[LaneLM, tuple[Tensor, ...], Requests]:
    """Copy to the GPU, with the model fused for inference."""
    model = deepcopy(model).to("cuda")
    fuse_for_inference(model, fold_image_encoder=False)
    return model, tuple(level.to("cuda") for level in levels), requests.to(torch.device("cuda"))


def same_lanes(there: Answers, here: Answers) -> None:
    assert here.visible.any()
    assert there.visible.cpu().equal(here.visible)
    assert ((there.xs.cpu() - here.xs)[here.visible]).abs().max() < 1e-3
    torch.testing.assert_close(there.score.cpu(), here.score, rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"local_sampling": False}, {"offset_tokens": False}], ids=str)
def test_lanes_decoded_on_the_gpu_are_those_of_the_cpu(settings: dict[str, object], gpu: SimulatedGpu) -> None:
    """On the GPU all rows are decoded, because reading a value to stop early would mean waiting."""
    model, levels, requests = small_lanelm(**settings), random_levels(3), random_requests(3, 6)
    here = generate(model, levels, requests)
    arguments = moved(model, levels, requests)
    gpu.waits.clear()
    there = generate(*arguments)
    on_gpu_alone(gpu, there)
    same_lanes(there, here)


@pytest.mark.parametrize("name", ["cuda:0", "cuda:1"])
def test_recorded_decoding_gives_the_same_lanes_for_later_requests(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_lanelm()
    with SimulatedGpu(name) as gpu:
        simulate_cuda_graphs(monkeypatch, gpu)
        write, kept = cuda_graph.CudaGraphDecoder(), []
        for seed in range(4):  # of two shapes, in turns
            levels, requests = random_levels(2, seed), random_requests(2, 4 + seed % 2, seed=seed)
            here = generate(model, levels, requests)
            on_gpu, *asked = moved(model, levels, requests)
            if not seed:
                there_model = on_gpu
            with torch.inference_mode(seed != 2):  # for other inputs
                kept.append((write(there_model, *asked), here))  # type: ignore[arg-type]
        assert len(write._recorded) == 2
        for there, here in kept:  # earlier answers do not change
            same_lanes(there, here)


def test_old_recordings_are_dropped(gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate_cuda_graphs(monkeypatch, gpu)
    monkeypatch.setattr(cuda_graph, "MAX_GRAPHS", 2)
    write, levels = cuda_graph.CudaGraphDecoder(), random_levels(1)
    model = moved(small_lanelm(), levels, random_requests(1, 1))[0]
    for lanes in [1, 2, 3, 1]:
        requests = random_requests(1, lanes, seed=5)
        there = write(model, *moved(model, levels, requests)[1:])
        assert there.xs.shape[1] == lanes
    assert len(write._recorded) == 2
    assert not deepcopy(write)._recorded


def test_position_encodings_of_a_recording_keep_their_memory(gpu: SimulatedGpu) -> None:
    places = grid_sinusoids(4, 6, 8, gpu.device)
    for rows in range(1, 50):
        grid_sinusoids(rows, 2, 8, gpu.device)
    assert grid_sinusoids(4, 6, 8, gpu.device).data_ptr() == places.data_ptr()


# From images to lanes


@pytest.fixture
def one_gpu(gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch) -> SimulatedGpu:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return gpu


@pytest.fixture
def files(tmp_path, gpu: SimulatedGpu) -> tuple[Config, str]:
    """Save a LaneLM that finds and decodes lanes; returns its settings and file."""
    config = small_lanelm_config(tmp_path, tmp_path, tmp_path / "none.pth")
    config.lanelm.decode.lane_threshold = config.lanelm.decode.proposal_threshold = 0.0
    reader = random_lanelm_detector(config)
    reader.lanelm.head.proj_y.bias.data[-1] -= 4  # its lanes end late
    save_lanelm(reader, tmp_path / "reader.pth")
    return config, str(tmp_path / "reader.pth")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_predictor_finds_the_same_lanes_on_a_gpu(
    compiled: bool, files: tuple[Config, str], one_gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate_cuda_graphs(monkeypatch, one_gpu)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *args, **kwargs: None)
    images = list(np.random.default_rng(0).integers(0, 256, (2, 148, 410, 3), np.uint8))
    clicks = [[[200.0, 120.0], [180.0, 90.0]], [[100.0, 130.0]]]
    found: list[list[list[Lane]]] = []
    for predictor in (Predictor(*files), Predictor(*files, device="cuda:0", compiled=compiled)):
        predictor.set_images(images)
        lanes, detections = predictor.lanes_of_images(), predictor.detections_of_images(0.0)
        found.append([*lanes, *detections, predictor.complete_many(clicks)])
    assert predictor.device == one_gpu.device
    for here, there in zip(*found, strict=True):
        assert here
        for one, other in zip(here, there, strict=True):
            assert other.score == pytest.approx(one.score, abs=1e-4)
            np.testing.assert_allclose(other.points, one.points, atol=0.02)


def test_speed_waits_for_the_gpu_it_times(
    files: tuple[Config, str], one_gpu: SimulatedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", events.append)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: events.append("from here on"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * 10**6)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    rows = speed.time_batches(Predictor(*files, device="cuda:0"), 1, 2, "fp32")
    assert events == ["from here on", *[one_gpu.device] * 3]  # once to warm up, however few are counted
    assert [(row.device, row.peak_memory, row.decoding) for row in rows] == [("a card", 7 * 10**6, on) for on in (0, 1)]
    assert rows[0].median_ms < rows[1].median_ms
