"""Checks an untrusted ONNX model before it runs; ``Reader`` starts this as a process.

ONNX Runtime reads the files that a model names, loops as often as it says and allocates what it
asks for. Accepted models consist of operators that ``export`` writes and whose cost is bounded, and
the shapes of all tensors follow from the batch size alone: they are inferred for each batch size
that ``Reader`` uses, and added up. Only then does ONNX Runtime load the model, for a trial run.

The process limits its own memory: a file can exhaust or crash whatever parses it.
"""

import json
import sys
from contextlib import suppress

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, defs, load_model_from_string

from mnist_lit.errors import InputError
from mnist_lit.reading.models import MAX_BATCH, infer, metadata_value, open_session
from mnist_lit.reading.onnx_cost import (
    ELEMENTS,
    MAX_TENSOR_BYTES,
    SHAPES,
    check_cost,
    refused,
    tensor_bytes,
    type_of,
)

MAX_PROCESS_BYTES = 4 * 2**30  # address space of this process
MAX_NODES = 2000
MAX_OTHER_BYTES = 4 * 2**20  # of the file, besides weights
MAX_METADATA = 64 * 2**10  # characters


OPSETS = range(18, defs.onnx_opset_version() + 1)  # torch does not export older ones

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
        model = load_model_from_string(content)
    except Exception as error:  # protobuf raises anything
        raise refused("it is damaged, or not an ONNX file") from error
    _check_interface(model.graph)
    _check_parts(model, len(content))
    _check_metadata({each.key: each.value for each in model.metadata_props})
    for batch_size in range(1, MAX_BATCH + 1):
        check_cost(model, batch_size)
    try:
        session = open_session(content)
    except Exception as error:
        raise refused(f"ONNX Runtime cannot load it ({type(error).__name__})") from error
    images = np.linspace(0, 1, MAX_BATCH * 28 * 28, dtype=np.float32).reshape(-1, 28, 28)
    try:
        for batch in (images[:1], images):
            infer(session, batch)
    except InputError as error:
        raise refused(f"a trial run failed: {str(error).splitlines()[0]}") from error


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
        raise refused(f"it has {', '.join(parts) or 'no inputs and outputs'}")
    if any(each.shape.dim[0].HasField("dim_value") for each in infos.values()):
        raise refused("the number of images is fixed")


def _check_parts(model: ModelProto, size: int) -> None:
    """Refuse anything but a plain list of known operators in a single file."""
    graph = model.graph
    if [each.domain for each in model.opset_import] not in ([""], ["ai.onnx"]):
        raise refused("it uses operators outside the ONNX standard")
    if model.opset_import[0].version not in OPSETS:
        raise refused(f"its opset {model.opset_import[0].version} is not supported")
    if model.functions or model.training_info or graph.sparse_initializer:
        raise refused("it has functions, training steps or sparse tensors")
    if len(graph.node) > MAX_NODES:
        raise refused(f"it has {len(graph.node):,} nodes, more than {MAX_NODES:,}")
    outputs = [name for node in graph.node for name in node.output if name]
    names = ["images", *(each.name for each in graph.initializer), *outputs]
    if len(set(names)) < len(names):
        raise refused("it defines a tensor twice")
    for tensor in graph.initializer:
        _check_tensor(tensor)
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise refused(f"it uses the operator {node.domain}:{node.op_type}".replace(" :", " "))
        for each in node.attribute:
            if each.type not in ATTRIBUTES or each.HasField("g") or each.ref_attr_name:
                raise refused(f"its operator {node.op_type} has the attribute {each.name}")
            if each.HasField("t"):
                _check_tensor(each.t)
    if size - sum(len(tensor.raw_data) for tensor in graph.initializer) > MAX_OTHER_BYTES:
        raise refused(f"besides weights it has more than {MAX_OTHER_BYTES // 2**20} MiB")


def _check_tensor(tensor: TensorProto) -> None:
    if tensor.external_data or tensor.data_location != TensorProto.DEFAULT:
        raise refused("it has external data, weights in another file")
    if tensor.data_type not in ELEMENTS:
        raise refused(f"it has a tensor of type {tensor.data_type}")
    if min(tensor.dims, default=0) < 0 or tensor_bytes(type_of(tensor)) > MAX_TENSOR_BYTES:
        raise refused(f"it has a tensor of shape {list(tensor.dims)}")


def _check_metadata(metadata: dict[str, str]) -> None:
    """Refuse metadata without a threshold, or that a terminal or a browser cannot show."""
    texts = [*metadata, *metadata.values()]
    try:  # strings in JSON may hide control characters, and numbers may be infinite
        decoded = json.dumps([*map(metadata_value, texts)], allow_nan=False, ensure_ascii=False)
    except (ValueError, RecursionError):
        decoded = "\n"
    if len("".join(texts)) > MAX_METADATA or not "".join([*texts, decoded]).isprintable():
        raise refused("its metadata is too long or not printable")
    if "ort_config" in metadata:
        raise refused("its metadata has settings for ONNX Runtime")
    with suppress(KeyError, ValueError):
        if 0 <= float(metadata["threshold"]) <= 1:
            return
    raise refused("its metadata has no threshold from 0 to 1")
