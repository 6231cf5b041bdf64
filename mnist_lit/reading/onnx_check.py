"""Checks an untrusted ONNX model before it runs; ``Reader`` starts this as a process.

ONNX Runtime reads the files that a model names, loops as often as it says and allocates what it
asks for. Accepted models consist of operators that ``export`` writes and whose cost is bounded, and
the shapes of all tensors follow from the batch size alone: they are inferred for each batch size
that ``Reader`` uses, and added up. Only then does ONNX Runtime load the model, for a trial run.

The process limits its own memory: a file can exhaust or crash whatever parses it.
"""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from onnx import (
    AttributeProto,
    GraphProto,
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
from mnist_lit.reading.reader import MAX_BATCH, infer, metadata_value, open_session

MAX_PROCESS_BYTES = 4 * 2**30  # address space of this process
MAX_NODES = 2000
MAX_OTHER_BYTES = 4 * 2**20  # of the file, besides weights
MAX_METADATA = 64 * 2**10  # characters
MAX_TENSOR_BYTES = 2**30  # of all tensors for a batch together
MAX_WORK = 2 * 10**10  # multiply-adds for a batch: one or two seconds on a fast core
SMALL = 1024  # elements of a tensor that may hold a shape, and whose values are computed

OPSETS = range(18, defs.onnx_opset_version() + 1)  # torch does not export older ones

# The float32 inputs and outputs, and their shapes for each image.
SHAPES = {"images": (1, 28, 28), "logits": (10,), "probabilities": (10,)}

ELEMENTS = [
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE),
    *(TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL),
]
ATTRIBUTES = [
    *(AttributeProto.FLOAT, AttributeProto.INT, AttributeProto.STRING, AttributeProto.TENSOR),
    *(AttributeProto.FLOATS, AttributeProto.INTS, AttributeProto.STRINGS),
]

# What torch.onnx.export writes for common layers and tensor functions: no control flow, no random
# numbers, and no output whose shape depends on the values of an input.
OPERATORS = """
    Abs Add And ArgMax ArgMin Atan AveragePool BatchNormalization Cast CastLike Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvTranspose Cos CumSum DepthToSpace Div Einsum Elu Equal
    Erf Exp Expand Flatten Floor GRU Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
    GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish
    Identity InstanceNormalization IsInf IsNaN LSTM LayerNormalization LeakyRelu Less LessOrEqual
    Log LogSoftmax MatMul Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pad Pow RMSNormalization RNN
    Range Reciprocal ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid
    Sign Sin Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Swish Tan
    Tanh ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
""".split()  # noqa: SIM905


def main() -> None:
    """Check the model on standard input, and print why it is refused, if it is."""
    with suppress(ImportError, ValueError, OSError):  # not available on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_PROCESS_BYTES, MAX_PROCESS_BYTES))
    try:
        check(sys.stdin.buffer.read())
    except InputError as error:
        print(str(error).splitlines()[0])
    except MemoryError:
        print("it needs too much memory")


def check(content: bytes) -> None:
    """Check a model.

    Args:
        content: The contents of an ONNX file.

    Raises:
        InputError: If it is refused; the first line says why.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf raises anything
        raise _refused("it is damaged, or not an ONNX file") from error
    _check_interface(model.graph)
    _check_parts(model, len(content))
    _check_metadata({each.key: each.value for each in model.metadata_props})
    for batch_size in range(1, MAX_BATCH + 1):
        _check_cost(model, batch_size)
    try:
        session = open_session(content)
    except Exception as error:
        raise _refused(f"ONNX Runtime cannot load it ({type(error).__name__})") from error
    images = np.linspace(0, 1, MAX_BATCH * 28 * 28, dtype=np.float32).reshape(-1, 28, 28)
    try:
        for batch in (images[:1], images):
            infer(session, batch)
    except InputError as error:
        raise _refused(f"a trial run failed: {str(error).splitlines()[0]}") from error


def _refused(reason: str) -> InputError:
    return InputError(reason, "Give an ONNX file written by export.")


def _check_interface(graph: GraphProto) -> None:
    """Refuse inputs and outputs other than ``SHAPES``, for any number of images."""
    infos = {each.name: each.type.tensor_type for each in [*graph.input, *graph.output]}
    shapes = {
        name: [dim.dim_param or dim.dim_value for dim in each.shape.dim]
        for name, each in infos.items()
    }
    found = [(name, tuple(shape[1:])) for name, shape in shapes.items()]
    is_float = all(each.elem_type == TensorProto.FLOAT for each in infos.values())
    counts = (len(graph.input), len(graph.output))
    if found != list(SHAPES.items()) or counts != (1, 2) or not is_float:
        parts = [f"{name} {shape}" for name, shape in shapes.items()]
        raise _refused(f"it has {', '.join(parts) or 'no inputs and outputs'}")
    if any(each.shape.dim[0].HasField("dim_value") for each in infos.values()):
        raise _refused("the number of images is fixed")


def _check_parts(model: ModelProto, size: int) -> None:
    """Refuse anything but a plain list of known operators in a single file."""
    graph = model.graph
    if [each.domain for each in model.opset_import] not in ([""], ["ai.onnx"]):
        raise _refused("it uses operators outside the ONNX standard")
    if model.opset_import[0].version not in OPSETS:
        raise _refused(f"its opset {model.opset_import[0].version} is not supported")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise _refused("it has functions, training steps or sparse tensors")
    if len(graph.node) > MAX_NODES:
        raise _refused(f"it has {len(graph.node):,} nodes, more than {MAX_NODES:,}")
    outputs = [name for node in graph.node for name in node.output if name]
    names = ["images", *(each.name for each in graph.initializer), *outputs]
    if len(set(names)) < len(names):
        raise _refused("it defines a tensor twice")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise _refused(f"it uses the operator {node.domain}:{node.op_type}".replace(" :", " "))
        for each in node.attribute:
            if each.type not in ATTRIBUTES or each.HasField("g") or each.ref_attr_name:
                raise _refused(f"its operator {node.op_type} has the attribute {each.name}")
            if each.HasField("t"):
                _check_tensor(each.t)
    if size - sum(len(tensor.raw_data) for tensor in graph.initializer) > MAX_OTHER_BYTES:
        raise _refused(f"besides weights it has more than {MAX_OTHER_BYTES // 2**20} MiB")


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.external_data or tensor.data_location != TensorProto.DEFAULT:
        raise _refused("it has external data, weights in another file")
    if tensor.data_type not in ELEMENTS:
        raise _refused(f"it has a tensor of type {tensor.data_type}")
    if min(tensor.dims, default=0) < 0 or _bytes(_type_of(tensor)) > MAX_TENSOR_BYTES:
        raise _refused(f"it has a tensor of shape {list(tensor.dims)}")


def _check_metadata(metadata: dict[str, str]) -> None:
    """Refuse metadata without a threshold, or that a terminal or a browser cannot show."""
    texts = [*metadata, *metadata.values()]
    try:  # strings in JSON may hide control characters, and numbers may be infinite
        decoded = json.dumps([*map(metadata_value, texts)], allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError):
        decoded = "\n"
    if len("".join(texts)) > MAX_METADATA or not "".join([*texts, decoded]).isprintable():
        raise _refused("its metadata are too long or not printable")
    if "ort_config" in metadata:
        raise _refused("its metadata have settings for ONNX Runtime")
    with suppress(KeyError, ValueError):
        if 0 <= float(metadata["threshold"]) <= 1:
            return
    raise _refused("its metadata have no threshold from 0 to 1")


def _check_cost(model: ModelProto, batch_size: int) -> None:
    """Infer the shapes of all tensors for a batch, and refuse a model that needs too much.

    Small tensors that follow from shapes and constants alone are computed, since shapes may depend
    on them. A shape that depends on the images remains unknown, and the model is refused.
    """
    weights = model.graph.initializer
    types = {each.name: _type_of(each) for each in weights}
    types["images"] = _type(TensorProto.FLOAT, [batch_size, *SHAPES["images"]])
    values = {each.name: each for each in weights if math.prod(each.dims) <= SMALL}
    bytes_used = work_used = 0
    for node in model.graph.node:
        outputs = _output_types(model, node, types, values)
        inputs = [_shape(types[name]) for name in node.input if name]
        work, buffer = _cost(node, inputs, [_shape(each) for each in outputs.values()])
        work_used += work
        bytes_used += 8 * buffer + sum(map(_bytes, outputs.values()))
        if bytes_used > MAX_TENSOR_BYTES:
            raise _refused(f"its tensors take more than {MAX_TENSOR_BYTES // 2**30} GiB")
        if work_used > MAX_WORK:
            raise _refused(f"it takes more than {MAX_WORK:.0e} operations for a few images")
        types |= outputs
        values |= _output_values(node, types, values, work)
    for name in ("logits", "probabilities"):
        if types.get(name) != _type(TensorProto.FLOAT, [batch_size, 10]):
            raise _refused(f"its {name} are not ten numbers for each image")


def _output_types(
    model: ModelProto,
    node: NodeProto,
    types: dict[str, TypeProto],
    values: dict[str, TensorProto],
) -> dict[str, TypeProto]:
    names = [name for name in node.input if name]
    if not types.keys() >= set(names):
        raise _refused(f"an input of its operator {node.op_type} is not defined")
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
        raise _refused(f"the shapes of its operator {node.op_type} do not match") from error
    for each in (output.tensor_type for output in outputs.values()):
        is_known = each.HasField("shape") and all(d.HasField("dim_value") for d in each.shape.dim)
        if not is_known or any(d.dim_value < 0 for d in each.shape.dim):
            raise _refused(f"the output shape of its operator {node.op_type} depends on the images")
        if each.elem_type not in ELEMENTS:
            raise _refused(f"the output type of its operator {node.op_type} is not supported")
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


def _type_of(tensor: TensorProto) -> TypeProto:
    return _type(tensor.data_type, tensor.dims)


def _shape(kind: TypeProto) -> list[int]:
    return [each.dim_value for each in kind.tensor_type.shape.dim]


def _bytes(kind: TypeProto) -> int:
    element = helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    return math.prod(_shape(kind)) * element.itemsize
