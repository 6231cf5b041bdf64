"""Checks an ONNX model from a stranger before it is run; ``Reader`` starts this as a process.

ONNX Runtime reads the files that a model names, loops as long as it says and allocates what it asks
for. A model passes only if it consists of operators that ``export`` writes and whose cost is known,
and if the shapes of all tensors follow from the batch size alone: these are inferred for each batch
size that ``Reader`` uses, and added up. Only then does ONNX Runtime see the model, for a trial.

The process has limits of its own: a file can be made to exhaust, or crash, whatever parses it.
"""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto, defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from mnist_lit.errors import InputError
from mnist_lit.reading.reader import AT_ONCE, infer, open_session

MOST_MEMORY = 4 * 2**30  # bytes of address space for this process

# Limits of a model.
MOST_NODES = 2000
MOST_OTHER = 4 * 2**20  # bytes of the file that are not weights
MOST_NOTES = 64 * 2**10  # characters of metadata
MOST_BYTES = 2**30  # of all tensors of a batch together
MOST_WORK = 2 * 10**10  # multiply-adds a batch; a fast core does as many in a second or two
SMALL = 1024  # elements of a tensor that may hold a shape, and so has to be known

OPSETS = range(18, defs.onnx_opset_version() + 1)  # torch exports with no older one
BATCH = "n"  # in a shape

# Inputs and outputs: float32, with these shapes.
FORM: dict[str, list[int | str]] = {
    "images": [BATCH, 1, 28, 28],
    "logits": [BATCH, 10],
    "probabilities": [BATCH, 10],
}

ELEMENTS = {
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE),
    *(TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.BOOL),
}

ATTRIBUTES = {
    *(onnx.AttributeProto.FLOAT, onnx.AttributeProto.INT, onnx.AttributeProto.STRING),
    *(onnx.AttributeProto.FLOATS, onnx.AttributeProto.INTS, onnx.AttributeProto.STRINGS),
    onnx.AttributeProto.TENSOR,
}

# What torch.onnx.export writes for the usual layers and functions of tensors. No control flow, no
# random numbers, and none whose output's shape depends on the values of its input.
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
    """Check the model on standard input, and print why it is refused; nothing if it is not."""
    with suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        check(sys.stdin.buffer.read())
    except InputError as error:
        print(str(error).splitlines()[0])
    except MemoryError:
        print("it needs too much memory")


def check(content: bytes) -> None:
    """Check a model.

    Args:
        content: Of its file.

    Raises:
        InputError: If it is refused; the first line says why.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # whatever protobuf raises
        raise _refused("it is damaged, or not an ONNX file") from error
    _check_form(model.graph)
    _check_parts(model, len(content))
    _check_notes(model)
    for batch_size in range(1, AT_ONCE + 1):
        _check_cost(model, batch_size)
    try:
        session = open_session(content)
    except Exception as error:
        raise _refused(f"ONNX Runtime cannot load it ({type(error).__name__})") from error
    images = np.linspace(0, 1, AT_ONCE * 28 * 28, dtype=np.float32).reshape(-1, 28, 28)
    for batch_size in (1, AT_ONCE):
        try:
            infer(session, images[:batch_size])
        except InputError as error:
            reason = str(error).splitlines()[0]
            raise _refused(f"a trial of it failed: {reason}") from error


def _refused(reason: str) -> InputError:
    return InputError(reason, "Give one that export has written.")


def _check_parts(model: onnx.ModelProto, size: int) -> None:
    """Refuse what is not a plain list of known operators, and any other file."""
    graph = model.graph
    if [each.domain for each in model.opset_import] not in ([""], ["ai.onnx"]):
        raise _refused("it uses operators outside of the ONNX standard")
    if model.opset_import[0].version not in OPSETS:
        raise _refused(f"its opset {model.opset_import[0].version} is not supported")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise _refused("it has functions, training steps or sparse tensors")
    if len(graph.node) > MOST_NODES:
        raise _refused(f"it has {len(graph.node):,} nodes, more than {MOST_NODES:,}")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for node in graph.node:
        _check_node(node)
    if size - sum(len(tensor.raw_data) for tensor in graph.initializer) > MOST_OTHER:
        raise _refused(f"besides weights it has more than {MOST_OTHER / 2**20:.0f} MiB")


def _check_node(node: NodeProto) -> None:
    if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
        raise _refused(f"it uses the operator {node.domain}{':' * bool(node.domain)}{node.op_type}")
    for attribute in node.attribute:
        if attribute.type not in ATTRIBUTES or attribute.HasField("g") or attribute.ref_attr_name:
            raise _refused(f"its operator {node.op_type} has the attribute {attribute.name}")
        if attribute.HasField("t"):
            _check_tensor(attribute.t)


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.external_data or tensor.data_location != TensorProto.DEFAULT:
        raise _refused("it has external data, weights in another file")
    if tensor.data_type not in ELEMENTS:
        raise _refused(f"it has a tensor of type {tensor.data_type}")
    if any(size < 0 for size in tensor.dims) or _bytes(tensor.data_type, tensor.dims) > MOST_BYTES:
        raise _refused(f"it has a tensor of shape {list(tensor.dims)}")


def _check_form(graph: onnx.GraphProto) -> None:
    """Refuse other inputs and outputs than ``FORM``."""
    infos = [*graph.input, *graph.output]
    found = {each.name: _declared(each.type) for each in infos}
    elements = {each.type.tensor_type.elem_type for each in infos}
    names = (len(graph.input), *found)
    others = names != (1, *FORM) or elements != {TensorProto.FLOAT} or len(infos) != len(FORM)
    if others or any(found[name][1:] != FORM[name][1:] for name in FORM):
        parts = [f"{name} {dims}" for name, dims in found.items()]
        raise _refused(f"it has {', '.join(parts) or 'no inputs and outputs'}")
    if any(isinstance(found[name][0], int) for name in FORM):
        raise _refused("the number of images is fixed")


def _declared(kind: TypeProto) -> list[int | str]:
    dims = kind.tensor_type.shape.dim
    return [each.dim_value if each.HasField("dim_value") else each.dim_param for each in dims]


def _check_notes(model: onnx.ModelProto) -> None:
    """Refuse metadata that a terminal or a server cannot show, or that lack the threshold."""
    notes = {each.key: each.value for each in model.metadata_props}
    texts = [*notes, *notes.values()]
    if sum(map(len, texts)) > MOST_NOTES or not all(map(_showable, texts)):
        raise _refused("its metadata are too long, or cannot be shown")
    if "ort_config" in notes:
        raise _refused("its metadata have settings for ONNX Runtime")
    try:
        known = 0 <= float(notes["threshold"]) <= 1
    except (KeyError, ValueError):
        known = False
    if not known:
        raise _refused("it notes no threshold from 0 to 1")


def _showable(text: str) -> bool:
    """Whether a text, and what it says as JSON, has neither control characters nor infinities."""
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:  # no JSON
        return text.isprintable()
    except RecursionError:
        return False
    try:
        shown = json.dumps(value, allow_nan=False, ensure_ascii=False)
    except ValueError:
        return False
    return text.isprintable() and shown.isprintable()


def _check_cost(model: onnx.ModelProto, batch_size: int) -> None:
    """Infer the shapes of all tensors for a batch, and refuse a model that needs too much.

    Tensors that follow from shapes and constants alone are computed, if they are small: shapes may
    depend on them. A shape that depends on the images stays unknown, and the model is refused.
    """
    weights = model.graph.initializer
    types = {each.name: _type(each.data_type, each.dims) for each in weights}
    if len(types) < len(weights) or "images" in types:
        raise _refused("it defines a tensor twice")
    values = {each.name: each for each in weights if math.prod(each.dims) <= SMALL}
    types["images"] = _type(TensorProto.FLOAT, [batch_size, *FORM["images"][1:]])
    bytes_used = work_used = 0
    for node in model.graph.node:
        outputs = _output_types(model, node, types, values)
        inputs = [_shape(types[name]) for name in node.input if name]
        work, buffer = _cost(node, inputs, [_shape(each) for each in outputs.values()])
        work_used += work
        bytes_used += 8 * buffer + sum(_type_bytes(each) for each in outputs.values())
        if bytes_used > MOST_BYTES:
            raise _refused(f"its tensors take more than {MOST_BYTES / 2**30:.0f} GiB")
        if work_used > MOST_WORK:
            raise _refused(f"it takes more than {MOST_WORK:.0e} operations for a few images")
        types |= outputs
        values |= _output_values(node, types, values, work)
    for name in ("logits", "probabilities"):
        if name not in types or types[name] != _type(TensorProto.FLOAT, [batch_size, 10]):
            raise _refused(f"its {name} are not ten numbers for each image")


def _output_types(
    model: onnx.ModelProto,
    node: NodeProto,
    types: dict[str, TypeProto],
    values: dict[str, TensorProto],
) -> dict[str, TypeProto]:
    names = [name for name in node.input if name]
    if not all(name in types for name in names):
        raise _refused(f"its operator {node.op_type} has an input that nothing gives")
    schema = defs.get_schema(node.op_type, model.opset_import[0].version, "")
    try:
        found = shape_inference.infer_node_outputs(
            schema,
            node,
            {name: types[name] for name in names},
            {name: values[name] for name in names if name in values},
            opset_imports=list(model.opset_import),
            ir_version=model.ir_version,
        )
        outputs = {name: found[name] for name in node.output if name}
    except Exception as error:  # the inference raises anything
        raise _refused(f"the shapes of its operator {node.op_type} do not match") from error
    for name, each in outputs.items():
        dims = each.tensor_type.shape.dim
        known = each.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims)
        if not known or any(size.dim_value < 0 for size in dims):
            raise _refused(
                f"the size of what its operator {node.op_type} gives is not known before"
            )
        if each.tensor_type.elem_type not in ELEMENTS:
            raise _refused(f"its operator {node.op_type} gives a type that is not supported")
        if name in types:
            raise _refused("it defines a tensor twice")
    return outputs


def _output_values(
    node: NodeProto, types: dict[str, TypeProto], values: dict[str, TensorProto], work: int
) -> dict[str, TensorProto]:
    """The outputs of a node as far as they are known before there are images."""
    if node.op_type == "Shape":
        attributes = {each.name: each.i for each in node.attribute}
        shape = _shape(types[node.input[0]])
        part = shape[attributes.get("start", 0) : attributes.get("end", len(shape))]
        results: list[Any] = [np.array(part, np.int64)]
    elif work <= 100 * SMALL and all(name in values for name in node.input if name):
        inputs = {name: numpy_helper.to_array(values[name]) for name in node.input if name}
        results = list(ReferenceEvaluator(node).run(None, inputs))
    else:
        return {}
    outputs = zip(node.output, map(np.asarray, results), strict=False)
    return {name: numpy_helper.from_array(value) for name, value in outputs if name}


def _cost(node: NodeProto, inputs: list[list[int]], outputs: list[list[int]]) -> tuple[int, int]:
    """An upper bound of a node's multiply-adds, and of the elements that it buffers."""
    sizes = [math.prod(shape) for shape in outputs]
    elements = sum(sizes) + sum(math.prod(shape) for shape in inputs)
    work, buffer = 10 * elements, 0  # as costly as a power or a logarithm for each
    if node.op_type in ("Conv", "ConvTranspose"):
        taps = math.prod(inputs[1][1:])
        positions = max(sizes[0], math.prod(inputs[0]))
        work += positions * taps
        buffer = taps * max(math.prod(inputs[0][2:]), math.prod(outputs[0][2:]))
    elif node.op_type in ("MatMul", "Gemm"):
        work += sizes[0] * max(inputs[0])
    elif node.op_type in ("AveragePool", "MaxPool"):
        kernel = next(each.ints for each in node.attribute if each.name == "kernel_shape")
        work += sizes[0] * math.prod(kernel)
    elif node.op_type in ("RNN", "GRU", "LSTM"):
        work += math.prod(inputs[0][:2]) * sum(math.prod(shape) for shape in inputs[1:3])
        buffer = 8 * elements
    elif node.op_type == "Einsum":
        work += _einsum_work(node, inputs)
    return work, buffer


def _einsum_work(node: NodeProto, inputs: list[list[int]]) -> int:
    terms = node.attribute[0].s.decode().replace(" ", "").partition("->")[0].split(",")
    if len(inputs) > 2 or [len(term) for term in terms] != [len(shape) for shape in inputs]:
        raise _refused("its operator Einsum has more than two inputs, or an ellipsis")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=True):
        sizes |= dict(zip(term, shape, strict=True))
    return math.prod(sizes.values())


def _type(element: int, dims: Sequence[Any]) -> TypeProto:
    return helper.make_tensor_type_proto(element, list(dims))


def _shape(kind: TypeProto) -> list[int]:
    return [each.dim_value for each in kind.tensor_type.shape.dim]


def _type_bytes(kind: TypeProto) -> int:
    return _bytes(kind.tensor_type.elem_type, _shape(kind))


def _bytes(element: int, dims: Sequence[int]) -> int:
    return math.prod(dims) * helper.tensor_dtype_to_np_dtype(element).itemsize
