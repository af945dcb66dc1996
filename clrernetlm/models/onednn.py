"""Layers for inference on the CPU: weights as oneDNN wants them, and what follows a convolution inside it."""

from __future__ import annotations

import operator
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from clrernetlm.models.efficientnet_lite import SameConv2d
from clrernetlm.models.layers import ConvBlock
from clrernetlm.models.roi_gather import PointsLinear

LARGE_WEIGHT = 1 << 18  # values from which oneDNN is faster for any input
LARGE_PRODUCT = 1 << 19  # multiplications from which it is faster for any weight


class PackedLinear(nn.Module):
    """(..., in) float32 -> (..., out): a Linear whose weights lie as oneDNN wants them.

    For float32 on the CPU, without gradients. Two to three times as fast there as the BLAS that PyTorch calls on AMD's
    processors; small products, which the longer way to oneDNN would make slower, go the usual way.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().contiguous()
        self.values = weight.numel()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        self.weight = weight if self.values < LARGE_WEIGHT else None
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is not None and x.numel() // x.shape[-1] * self.values < LARGE_PRODUCT:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x.contiguous(), self.packed, self.bias, "none", [], "")


@dataclass(frozen=True)
class Activation:
    """A function of single values under its name in oneDNN."""

    name: str
    limits: tuple[float, ...] = ()


NONE, RELU, RELU6 = Activation("none"), Activation("relu"), Activation("hardtanh", (0.0, 6.0))


class PackedConv2d(nn.Module):
    """(B, in, h, w) -> (B, out, h', w'): a Conv2d, then the residual if there is one, then the activation.

    Its weights lie as oneDNN wants them for the first input it meets: Conv2d brings them into that order at every call,
    which for the coarse, wide layers takes a fifth of the time. What follows the convolution happens while its output
    is still in the cache. For the CPU, without gradients.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation = NONE) -> None:
        super().__init__()
        self.weight, padding = conv.weight.detach(), conv.padding
        if isinstance(conv, SameConv2d):
            before, after = conv.margins[:2]
            # oneDNN is asked for as much padding on the left as on the right: a column and a row of zero weights see
            # what is too much.
            self.weight = F.pad(self.weight, (after - before, 0) * 2)
            padding = (after, after)
        assert isinstance(padding, tuple)
        self.geometry = [*padding], [*conv.stride], [*conv.dilation], conv.groups
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.activation = activation
        self.is_packed = False

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        if not self.is_packed:
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.geometry, [*x.shape])
            self.is_packed = True
        weights, after, operations = (self.weight, self.bias, *self.geometry), self.activation, torch.ops.mkldnn
        if residual is None:
            return operations._convolution_pointwise(x, *weights, after.name, after.limits, "")
        name = None if after is NONE else after.name
        return operations._convolution_pointwise.binary(x, residual, *weights, "add", 1.0, name, after.limits, None)


def pack(module: nn.Module) -> None:
    """Replace the Linear and Conv2d layers in a module by packed ones, where this PyTorch has them.

    Their BatchNorms are in their weights already; see `fusing.fold_norms`.
    """
    for name, child in module.named_children():
        packed: nn.Module
        try:
            if type(child) is nn.Linear and child.weight.dtype == torch.float32:
                packed = PackedLinear(child)
                packed(torch.zeros(LARGE_PRODUCT // child.weight.numel() + 1, child.in_features))
            elif isinstance(child, PointsLinear):
                packed = nn.Sequential(packed_convolution(child.convolution()), nn.Flatten(2))
            elif isinstance(child, ConvBlock):
                packed = packed_convolution(child.conv, NONE if child.bn is None else RELU)
            elif isinstance(child, nn.Conv2d) and child.padding_mode == "zeros" and not isinstance(child.padding, str):
                packed = packed_convolution(child)
            else:
                pack(child)
                continue
        except (AttributeError, RuntimeError):  # built without oneDNN, or for a processor without bf16
            return
        setattr(module, name, packed.eval())


def packed_convolution(conv: nn.Conv2d, activation: Activation = NONE) -> PackedConv2d:
    """Raises RuntimeError where oneDNN cannot do it."""
    PackedConv2d(conv, activation)(torch.zeros(1, conv.in_channels, *conv.kernel_size, dtype=conv.weight.dtype))
    return PackedConv2d(conv, activation)


class Tracer(fx.Tracer):
    """Takes packed convolutions for one step."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, PackedConv2d) or super().is_leaf_module(m, module_qualified_name)


def join(network: nn.Module) -> nn.Module:
    """A network after `pack` -> the same with residuals and activations inside the convolutions before them.

    The network takes one tensor, has no branch that depends on values and uses no convolution twice; what is added has
    one shape. A network with convolutions that `pack` has left alone stays as it is.
    """
    if any(isinstance(layer, nn.Conv2d) for layer in network.modules()):
        return network
    graph = Tracer().trace(network)
    modules = dict(network.named_modules())
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(modules[node.target], nn.Identity):  # a norm that was folded
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    for node in graph.nodes:
        conv = modules[node.target] if node.op == "call_module" else None
        if not isinstance(conv, PackedConv2d) or len(node.args) > 1:  # with its residual already
            continue
        last = node
        possible: tuple[Activation, ...] = (RELU, RELU6)
        if len(node.users) == 1 and (residual := added(following := next(iter(node.users)), node)) is not None:
            possible = (RELU,)  # oneDNN has no other behind a residual
            with graph.inserting_before(following):
                last = graph.call_module(node.target, (node.args[0], residual))
            following.replace_all_uses_with(last)
            graph.erase_node(following)
            graph.erase_node(node)
        if len(last.users) == 1 and activation_of(following := next(iter(last.users)), modules) in possible:
            conv.activation = activation_of(following, modules)
            following.replace_all_uses_with(last)
            graph.erase_node(following)
    return fx.GraphModule(network, graph).eval()


def added(node: fx.Node, to: fx.Node) -> fx.Node | None:
    """What a node adds to the result of another; None for other nodes."""
    if (node.op, node.target) not in (("call_method", "add_"), ("call_function", operator.add)):
        return None
    first, second = node.args
    other = second if first is to else first
    return other if isinstance(other, fx.Node) else None


def activation_of(node: fx.Node, modules: dict[str, nn.Module]) -> Activation:
    """The activation that a node applies; `NONE` for other nodes."""
    if node.op == "call_module":
        return RELU if isinstance(modules[str(node.target)], nn.ReLU) else NONE
    return {"relu_": RELU, F.relu: RELU, F.relu6: RELU6}.get(node.target, NONE)
