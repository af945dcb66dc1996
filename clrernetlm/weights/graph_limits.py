"""Checks exported graphs before they run: only operators that exported models have, and results of bounded size.

A small file can take terabytes, or hours: an operator that fills an array of a given shape, or two that
broadcast against each other, need nothing but the shape. So the shapes of all results are computed first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clrernetlm.core.errors import UserError

# The operators of our exports, and those that other versions of the exporters write for the same networks. All compute
# results of predictable shape. No control flow, no sequences, no texts, no randomness, no shapes that depend on values.
_ONNX = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast CastLike Ceil Clip Concat Constant ConstantOfShape
    Conv Cos DequantizeLinear Div Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater
    GlobalAveragePool GreaterOrEqual GridSample Identity IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax MatMul Max MaxPool Min Mod Mul Neg Not Or Pad Pow QuantizeLinear Range Reciprocal ReduceL2 ReduceMax
    ReduceMean ReduceMin ReduceProd ReduceSum Relu Reshape Resize Round ScatterElements ScatterND Shape Sigmoid Sign Sin
    Size Slice Softmax Softplus Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Unsqueeze Where Xor
"""
_OPENVINO = """
    Abs Add AvgPool BatchNormInference Broadcast Ceiling Clamp Concat Const Convert ConvertLike Convolution Cos Divide
    Equal Erf Exp FakeQuantize Floor FloorMod Gather GatherElements GatherND Gelu Greater GreaterEqual GridSample
    GroupConvolution Identity Interpolate IsFinite IsInf IsNaN Less LessEqual Log LogSoftmax LogicalAnd LogicalNot
    LogicalOr LogicalXor MVN MatMul MaxPool Maximum Minimum Mod Multiply Negative NormalizeL2 NotEqual Pad Parameter
    Power Range ReLU ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Reshape Result Round
    ScatterElementsUpdate ScatterNDUpdate ScatterUpdate Select ShapeOf Sigmoid Sign Sin Slice SoftMax SoftPlus Split
    Sqrt SquaredDifference Squeeze StridedSlice Subtract Swish Tan Tanh Tile TopK Transpose Unsqueeze VariadicSplit
"""
ONNX_OPERATORS, OPENVINO_OPERATORS = frozenset(_ONNX.split()), frozenset(_OPENVINO.split())
# Limits for inputs of n numbers. CLRerNet with DLA-34 computes 240 numbers per input number, and holds about 60
# bytes per input number at a time; graphs with small inputs need more per number.
MAX_NUMBERS, NUMBERS_PER_INPUT = 1 << 28, 1500
MAX_BYTES, BYTES_PER_INPUT = 1 << 28, 400
MAX_FOLDED = 64  # numbers of a value that is computed beforehand: shapes, and values computed from them
MAX_OPERATORS = 20_000  # of a graph; usual: about 500, in OpenVINO 1500
SIZES = (1, 4)  # for which a graph is checked, of axes that may have any size
FIX = "export the model again"

Values = NDArray[np.int64]


@dataclass(frozen=True)
class Operation:
    """One operator of a graph: its kind, the names of its inputs, and {output: (numbers, bytes)}."""

    kind: str
    inputs: Collection[str]
    outputs: Mapping[str, tuple[int, int]]


def require_known(path: Path, kinds: Collection[str], known: Collection[str]) -> None:
    """Raise UserError for an operator that no exported model has, and for more than `MAX_OPERATORS` of them."""
    unknown = next((kind for kind in kinds if kind not in known), None)
    if unknown is not None:
        raise UserError(
            f"{path}: has the operator {unknown[:80] or '(without a name)'}, which no exported model has; {FIX}"
        )
    if len(kinds) > MAX_OPERATORS:
        raise UserError(f"{path}: has {len(kinds)} operators; {MAX_OPERATORS} are allowed; {FIX}")


def require_bounded(path: Path, operations: Sequence[Operation], input_numbers: int, results: Collection[str]) -> None:
    """Raise UserError for a graph that computes too many numbers, or needs too much memory at a time.

    `operations` in the order in which they run; `input_numbers`: those of all inputs; `results`: names kept to the end.
    """
    last = {name: index for index, operation in enumerate(operations) for name in operation.inputs}
    sizes: dict[str, int] = {}  # bytes of the values in memory
    numbers = memory = 0  # in all; bytes at a time
    for index, operation in enumerate(operations):
        for name, (count, size) in operation.outputs.items():
            numbers += count
            memory += size - sizes.get(name, 0)
            sizes[name] = size
        if (
            numbers > MAX_NUMBERS + NUMBERS_PER_INPUT * input_numbers
            or memory > MAX_BYTES + BYTES_PER_INPUT * input_numbers
        ):
            largest = max(count for count, _ in operation.outputs.values())
            raise UserError(
                f"{path}: takes too much memory or time: operator {operation.kind} computes {largest} numbers; {FIX}"
            )
        for name in (*operation.inputs, *operation.outputs):
            if last.get(name, index) <= index and name not in results:
                memory -= sizes.pop(name, 0)


def check_onnx(path: Path, model: Any) -> None:
    """Raise UserError for the `onnx.ModelProto` of `path` if its results are too large for inputs of the `SIZES`."""
    has_free_size = any(not axis.HasField("dim_value") for entry in model.graph.input for axis in _axes(entry))
    for size in SIZES if has_free_size else SIZES[:1]:
        operations, input_numbers = OnnxShapes(path, model, size).operations()
        require_bounded(path, operations, input_numbers, {entry.name for entry in model.graph.output})


def _axes(entry: Any) -> Sequence[Any]:
    axes: Sequence[Any] = entry.type.tensor_type.shape.dim
    return axes


class OnnxShapes:
    """Computes the shapes of all results of an ONNX graph, operator by operator, for inputs of given sizes.

    `size`: of every input axis of variable size; an axis named `a*b` has the product of two.
    """

    def __init__(self, path: Path, model: Any, size: int) -> None:
        import onnx.shape_inference

        self.onnx: Any = onnx
        self.path, self.graph = path, model.graph
        self.imports = list(model.opset_import)
        self.version = max((entry.version for entry in self.imports if entry.domain in ("", "ai.onnx")), default=1)
        self.types: dict[str, Any] = {}
        self.values: dict[str, Values] = {}
        self.input_numbers = 0
        for entry in self.graph.input:
            copied = self.onnx.TypeProto()
            copied.CopyFrom(entry.type)
            for axis in copied.tensor_type.shape.dim:
                if not axis.HasField("dim_value"):
                    axis.dim_value = size ** min(4, 1 + axis.dim_param.count("*"))
            self.types[entry.name] = copied
            self.input_numbers += self._count(copied) or 0
        for tensor in self.graph.initializer:
            self.types[tensor.name] = self.onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            self._keep(tensor.name, tensor)

    def operations(self) -> tuple[list[Operation], int]:
        """List all operators with the sizes of their results; also returns the numbers of the inputs.

        Raises UserError for an operator whose results have no predictable size.
        """
        return [self._operation(node) for node in self.graph.node], self.input_numbers

    def _operation(self, node: Any) -> Operation:
        known = {name: self.types[name] for name in node.input if name in self.types}
        if node.op_type == "Constant" and node.output:
            self._constant(node)
        else:
            for name, found in self._inferred(node, known).items():
                self.types[name] = found
        outputs = {}
        for name in node.output:
            if not name:
                continue
            found = self.types.get(name)
            count = None if found is None else self._count(found)
            if count is None:
                raise UserError(f"{self.path}: the operator {node.op_type} has a result of unpredictable size; {FIX}")
            outputs[name] = count, count * self._item_size(found)
        if len(node.output) == 1 and all(count <= MAX_FOLDED for count, _ in outputs.values()):
            # A value that is not known here makes the size of a later result unpredictable, which is refused there.
            with suppress(ValueError, IndexError, KeyError, TypeError, ArithmeticError):
                self._fold(node)
        return Operation(node.op_type, list(node.input), outputs)

    def _inferred(self, node: Any, known: Mapping[str, Any]) -> dict[str, Any]:
        try:
            data = {
                name: self.onnx.numpy_helper.from_array(self.values[name].astype(self._dtype(known[name])), name)
                for name in node.input
                if name in self.values and name in known
            }
            schema = self.onnx.defs.get_schema(node.op_type, self.version, "")
            found = self.onnx.shape_inference.infer_node_outputs(schema, node, dict(known), data, None, self.imports)
        except Exception:  # onnx raises many classes for operators that do not fit their inputs
            found = {}
        if not found and node.op_type in _LIKE_ITS_INPUT and node.output and node.input and node.input[0] in known:
            found = {node.output[0]: known[node.input[0]]}
        return dict(found)

    def _constant(self, node: Any) -> None:
        for attribute in node.attribute:
            if attribute.name == "value":
                tensor = attribute.t
            elif attribute.name in ("value_int", "value_ints"):
                numbers = np.array(attribute.ints if attribute.name == "value_ints" else attribute.i, np.int64)
                tensor = self.onnx.numpy_helper.from_array(numbers)
            elif attribute.name in ("value_float", "value_floats"):
                numbers = np.array(attribute.floats if attribute.name == "value_floats" else attribute.f, np.float32)
                tensor = self.onnx.numpy_helper.from_array(numbers)
            else:
                continue
            name = node.output[0]
            self.types[name] = self.onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            self._keep(name, tensor)

    def _keep(self, name: str, tensor: Any) -> None:
        """Keep the numbers of a small tensor of integers, from which shapes are computed."""
        kinds = self.onnx.TensorProto
        if tensor.data_type in (kinds.INT64, kinds.INT32, kinds.BOOL) and abs(math.prod(tensor.dims)) <= MAX_FOLDED:
            with suppress(Exception):  # fewer bytes than its shape says: left to the runtime
                self.values[name] = self.onnx.numpy_helper.to_array(tensor).astype(np.int64)

    def _fold(self, node: Any) -> None:
        """Compute the result of an operator on shapes where its inputs are known."""
        name = node.output[0]
        shape = [axis.dim_value for axis in self.types[name].tensor_type.shape.dim]
        attributes = {attribute.name: self.onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Shape" and node.input[0] in self.types:
            whole = [axis.dim_value for axis in self.types[node.input[0]].tensor_type.shape.dim]
            self.values[name] = np.array(whole[attributes.get("start", 0) : attributes.get("end")], np.int64)
            return
        fold = _FOLDS.get(node.op_type)
        if fold is None or not all(item in self.values for item in node.input if item):
            return
        with np.errstate(all="ignore"):
            folded = fold([self.values[item] for item in node.input if item], shape, attributes)
            self.values[name] = np.asarray(folded).astype(np.int64).reshape(shape)

    def _count(self, found: Any) -> int | None:
        """Count the numbers of a tensor; None if its shape is not known."""
        kind = found.tensor_type
        if not kind.HasField("shape") or not all(axis.HasField("dim_value") for axis in kind.shape.dim):
            return None
        size: int | None = math.prod(max(axis.dim_value, 0) for axis in kind.shape.dim)
        return size

    def _item_size(self, found: Any) -> int:
        try:
            return int(self.onnx.helper.tensor_dtype_to_np_dtype(found.tensor_type.elem_type).itemsize)
        except (KeyError, TypeError, ValueError):
            return 8

    def _dtype(self, found: Any) -> Any:
        return self.onnx.helper.tensor_dtype_to_np_dtype(found.tensor_type.elem_type)


Fold = Callable[[list[Values], list[int], dict[str, Any]], Any]


def _slice(values: list[Values], shape: list[int], attributes: dict[str, Any]) -> Values:
    array, starts, ends, *rest = values
    axes = rest[0] if rest else np.arange(len(starts))
    steps = rest[1] if len(rest) > 1 else np.ones(len(starts), np.int64)
    index = [slice(None)] * array.ndim
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), axes.tolist(), steps.tolist(), strict=True):
        index[axis] = slice(start, end if end > -array.shape[axis] - 1 else None, step)
    return array[tuple(index)]


# How operators compute integers that become shapes: from the inputs, the shape of the result and the attributes.
_FOLDS: dict[str, Fold] = {
    "Identity": lambda values, shape, attributes: values[0],
    "Cast": lambda values, shape, attributes: values[0],
    "Squeeze": lambda values, shape, attributes: values[0],
    "Unsqueeze": lambda values, shape, attributes: values[0],
    "Reshape": lambda values, shape, attributes: values[0],
    "Gather": lambda values, shape, attributes: np.take(values[0], values[1], axis=attributes.get("axis", 0)),
    "Concat": lambda values, shape, attributes: np.concatenate(values, axis=attributes["axis"]),
    "Slice": _slice,
    "Add": lambda values, shape, attributes: values[0] + values[1],
    "Sub": lambda values, shape, attributes: values[0] - values[1],
    "Mul": lambda values, shape, attributes: values[0] * values[1],
    "Div": lambda values, shape, attributes: np.trunc(np.divide(values[0], values[1])),
    "Min": lambda values, shape, attributes: np.minimum.reduce(np.broadcast_arrays(*values)),
    "Max": lambda values, shape, attributes: np.maximum.reduce(np.broadcast_arrays(*values)),
    "Neg": lambda values, shape, attributes: -values[0],
    "Equal": lambda values, shape, attributes: values[0] == values[1],
    "Where": lambda values, shape, attributes: np.where(values[0] != 0, values[1], values[2]),
    "Range": lambda values, shape, attributes: np.arange(*(int(value) for value in values)),
    "Expand": lambda values, shape, attributes: np.broadcast_to(values[0], shape),
}
_LIKE_ITS_INPUT = ("Gelu", "Identity", "Relu", "Sigmoid", "Tanh", "Clip")  # results of the first input's shape


def check_openvino(path: Path, model: Any, input_numbers: int) -> None:
    """Raise UserError for an `openvino.Model` of fixed sizes whose results are too large for its `input_numbers`."""
    operations = []
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        outputs = {}
        for port in operation.outputs():
            shape = port.get_partial_shape()
            if shape.is_dynamic:
                raise UserError(f"{path}: the operator {kind} has a result of unpredictable size; {FIX}")
            count = math.prod(shape.to_shape())
            outputs[_port_name(port)] = count, count * max(1, port.get_element_type().bitwidth // 8)
        inputs = [_port_name(port.get_source_output()) for port in operation.inputs()]
        if kind not in ("Constant", "Result", "Parameter"):
            operations.append(Operation(kind, inputs, outputs))
    results = {_port_name(result.input_value(0)) for result in model.get_results()}
    require_bounded(path, operations, input_numbers, results)


def _port_name(port: Any) -> str:
    return f"{port.get_node().get_name()}:{port.get_index()}"
