"""The cost of an ONNX model: an upper bound of its memory and time for a batch of images."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import (
    ModelProto,
    NodeProto,
    TensorProto,
    TypeProto,
    defs,
    helper,
    numpy_helper,
    shape_inference,
)
from onnx.reference import ReferenceEvaluator

from mnist_lit.errors import InputError

MAX_TENSOR_BYTES = 2**30  # of all tensors for a batch together
MAX_WORK = 2 * 10**10  # multiply-adds for a batch: one or two seconds on a fast core
SMALL = 1024  # elements of a tensor that may hold a shape, and whose values are computed

# The float32 inputs and outputs, and their shapes for each image.
SHAPES = {"images": (1, 28, 28), "logits": (10,), "probabilities": (10,)}

ELEMENTS = [
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE),
    *(TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL),
]


def refused(reason: str) -> InputError:
    """The error for a model that is refused.

    Args:
        reason: The reason, as the end of a sentence.
    """
    return InputError(reason, "Give an ONNX file written by export.")


def check_cost(model: ModelProto, batch_size: int) -> None:
    """Infer the shapes of all tensors for a batch, and refuse a model that needs too much.

    Small tensors that follow from shapes and constants alone are computed, since shapes may depend
    on them. A shape that depends on the images remains unknown, and the model is refused.

    Args:
        model: A plain list of known operators.
        batch_size: Number of images.

    Raises:
        InputError: If the model is refused; the first line says why.
    """
    weights = model.graph.initializer
    types = {each.name: type_of(each) for each in weights}
    types["images"] = _type(TensorProto.FLOAT, [batch_size, *SHAPES["images"]])
    values = {each.name: each for each in weights if math.prod(each.dims) <= SMALL}
    bytes_used = work_used = 0
    for node in model.graph.node:
        outputs = _output_types(model, node, types, values)
        inputs = [_shape(types[name]) for name in node.input if name]
        work, buffer = _cost(node, inputs, [_shape(each) for each in outputs.values()])
        work_used += work
        bytes_used += 8 * buffer + sum(map(tensor_bytes, outputs.values()))
        if bytes_used > MAX_TENSOR_BYTES:
            raise refused(f"its tensors take more than {MAX_TENSOR_BYTES // 2**30} GiB")
        if work_used > MAX_WORK:
            raise refused(f"it takes more than {MAX_WORK:.0e} operations for a few images")
        types |= outputs
        values |= _output_values(node, types, values, work)
    for name in ("logits", "probabilities"):
        if types.get(name) != _type(TensorProto.FLOAT, [batch_size, 10]):
            raise refused(f"its {name} are not ten numbers for each image")


def _output_types(
    model: ModelProto,
    node: NodeProto,
    types: dict[str, TypeProto],
    values: dict[str, TensorProto],
) -> dict[str, TypeProto]:
    names = [name for name in node.input if name]
    if not types.keys() >= set(names):
        raise refused(f"an input of its operator {node.op_type} is not defined")
    try:
        found = shape_inference.infer_node_outputs(
            defs.get_schema(node.op_type, model.opset_import[0].version, ""),
            node,
            {name: types[name] for name in names},
            {name: values[name] for name in names if name in values},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
        outputs = {name: found[name] for name in node.output if name}
    except Exception as error:  # shape inference raises anything
        raise refused(f"the shapes of its operator {node.op_type} do not match") from error
    for each in (output.tensor_type for output in outputs.values()):
        is_known = each.HasField("shape") and all(d.HasField("dim_value") for d in each.shape.dim)
        if not is_known or any(d.dim_value < 0 for d in each.shape.dim):
            raise refused(f"the output shape of its operator {node.op_type} depends on the images")
        if each.elem_type not in ELEMENTS:
            raise refused(f"the output type of its operator {node.op_type} is not supported")
    return outputs


def _output_values(
    node: NodeProto, types: dict[str, TypeProto], values: dict[str, TensorProto], work: int
) -> dict[str, TensorProto]:
    """The outputs of a node, if they are cheap and do not depend on the images."""
    names = [name for name in node.input if name]
    if node.op_type == "Shape":  # depends only on the shape of its input
        inputs = {name: np.broadcast_to(np.float32(0), _shape(types[name])) for name in names}
    elif work <= 100 * SMALL and all(name in values for name in names):
        inputs = {name: numpy_helper.to_array(values[name]) for name in names}
    else:
        return {}
    results = zip(node.output, ReferenceEvaluator(node).run(None, inputs), strict=False)
    return {name: numpy_helper.from_array(np.asarray(value)) for name, value in results if name}


def _cost(node: NodeProto, inputs: list[list[int]], outputs: list[list[int]]) -> tuple[int, int]:
    """Upper bounds of a node's multiply-adds, and of the elements that it buffers."""
    sizes_in, sizes_out = [*map(math.prod, inputs)], [*map(math.prod, outputs)]
    elements = sum(sizes_in) + sum(sizes_out)
    work, buffer = 10 * elements, 0  # a power or a logarithm for each element
    if node.op_type in ("Conv", "ConvTranspose"):
        taps = math.prod(inputs[1][1:])
        work += max(sizes_in[0], sizes_out[0]) * taps
        buffer = taps * max(math.prod(inputs[0][2:]), math.prod(outputs[0][2:]))
    elif node.op_type in ("MatMul", "Gemm"):
        work += sizes_out[0] * max(inputs[0])
    elif node.op_type in ("AveragePool", "MaxPool"):
        kernel = next(each.ints for each in node.attribute if each.name == "kernel_shape")
        work += sizes_out[0] * math.prod(kernel)
    elif node.op_type in ("RNN", "GRU", "LSTM"):
        work += math.prod(inputs[0][:2]) * sum(sizes_in[1:3])
        buffer = 8 * elements
    elif node.op_type == "Einsum":
        work += math.prod(sizes_in)
    return work, buffer


def _type(element: int, dims: Sequence[Any]) -> TypeProto:
    return helper.make_tensor_type_proto(element, list(dims))


def type_of(tensor: TensorProto) -> TypeProto:
    """The type of a constant tensor."""
    return _type(tensor.data_type, tensor.dims)


def _shape(kind: TypeProto) -> list[int]:
    return [each.dim_value for each in kind.tensor_type.shape.dim]


def tensor_bytes(kind: TypeProto) -> int:
    """The size of a tensor in memory."""
    element = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    return math.prod(_shape(kind)) * element.itemsize
