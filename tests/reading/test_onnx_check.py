"""ONNX models made to harm: each is refused in two lines, and none is run."""

import json
import os
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.helper import (
    make_attribute,
    make_function,
    make_graph,
    make_model,
    make_node,
    make_opsetid,
    make_sparse_tensor,
    make_tensor,
    make_tensor_value_info,
)

from mnist_lit.errors import InputError
from mnist_lit.reading.models import MAX_BATCH
from mnist_lit.reading.onnx_check import check
from mnist_lit.reading.reader import Reader
from tests.conftest import Command

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64

HUGE = 784 * 32 * 10**6  # floats of 100 GB


def tensor(name: str, values: object, dtype: type = np.int64) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype), name)


def model(*nodes: NodeProto, weights: tuple[TensorProto, ...] = ()) -> ModelProto:
    """A linear network, before it nodes that turn ``images`` into ``changed``."""
    source = "changed" if nodes else "images"
    network = [
        make_node("Reshape", [source, "row"], ["flat"]),
        make_node("MatMul", ["flat", "weight"], ["logits"]),
        make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    ramp = np.linspace(-0.1, 0.1, 7840, dtype=np.float32).reshape(784, 10)
    own = [tensor("row", [-1, 784]), numpy_helper.from_array(ramp, "weight")]
    graph = make_graph(
        [*nodes, *network],
        "network",
        [make_tensor_value_info("images", FLOAT, ["n", 1, 28, 28])],
        [make_tensor_value_info(name, FLOAT, ["n", 10]) for name in ("logits", "probabilities")],
        [*own, *weights],
    )
    result = make_model(graph, ir_version=10, opset_imports=[make_opsetid("", 20)])
    result.metadata_props.add(key="threshold", value="0.5")
    return result


def added(*nodes: NodeProto, weights: tuple[TensorProto, ...] = ()) -> ModelProto:
    """Nodes that give ``extra``, whose sum is added to the images."""
    total = make_node("ReduceSum", ["extra"], ["sum"], keepdims=0)
    return model(*nodes, total, make_node("Add", ["images", "sum"], ["changed"]), weights=weights)


def changed(change: Callable[[ModelProto], object]) -> ModelProto:
    result = model()
    change(result)
    return result


def noting(**notes: str) -> ModelProto:
    result = model()
    del result.metadata_props[:]
    for key, value in notes.items():
        result.metadata_props.add(key=key, value=value)
    return result


def refusal(hostile: ModelProto | bytes) -> str:
    content = hostile if isinstance(hostile, bytes) else hostile.SerializeToString()
    with pytest.raises(InputError) as error:
        check(content)
    return str(error.value).splitlines()[0]


def test_a_plain_model_passes() -> None:
    check(model().SerializeToString())
    check(added(make_node("Relu", ["images"], ["extra"])).SerializeToString())


# ---- memory ----


def _random_size() -> ModelProto:
    """As many elements as the pixels say."""
    return added(
        make_node("ReduceSum", ["images"], ["brightness"], keepdims=0),
        make_node("Cast", ["brightness"], ["number"], to=INT64),
        make_node("Reshape", ["number", "one"], ["shape"]),
        make_node("ConstantOfShape", ["shape"], ["extra"]),
        weights=(tensor("one", [1]),),
    )


def _size_of_one_batch() -> ModelProto:
    """Small but for three images."""
    return added(
        make_node("Shape", ["images"], ["n"], start=0, end=1),
        make_node("Equal", ["n", "three"], ["is_three"]),
        make_node("Where", ["is_three", "huge", "one"], ["shape"]),
        make_node("ConstantOfShape", ["shape"], ["extra"]),
        weights=(tensor("three", [3]), tensor("huge", [HUGE]), tensor("one", [1])),
    )


def _doubled() -> ModelProto:
    """Each node doubles what the one before gives."""
    names = ["images", *(f"doubled{i}" for i in range(39)), "extra"]
    pairs = pairwise(names)
    return added(*(make_node("Concat", [a, a], [b], axis=0) for a, b in pairs))


def _many_tensors() -> ModelProto:
    """None is large, but there are many."""
    wide = make_node("Tile", ["images", "repeats"], ["wide"])
    names = ["wide", *(f"relu{i}" for i in range(999)), "extra"]
    pairs = pairwise(names)
    nodes = [make_node("Relu", [a], [b]) for a, b in pairs]
    return added(wide, *nodes, weights=(tensor("repeats", [1, 100, 1, 1]),))


def _resized() -> ModelProto:
    resize = make_node("Resize", ["images", "", "scales"], ["extra"], mode="cubic")
    return added(resize, weights=(tensor("scales", [1, 1, 5000, 5000], np.float32),))


@pytest.mark.parametrize(
    "hostile",
    [
        added(
            make_node("ConstantOfShape", ["shape"], ["extra"]), weights=(tensor("shape", [HUGE]),)
        ),
        added(
            make_node("Expand", ["images", "shape"], ["extra"]),
            weights=(tensor("shape", [HUGE // 784, 1, 1, 1, 1]),),
        ),
        added(
            make_node("Tile", ["images", "repeats"], ["extra"]),
            weights=(tensor("repeats", [1, HUGE // 784, 1, 1]),),
        ),
        added(
            make_node("Pad", ["images", "pads"], ["extra"]),
            weights=(tensor("pads", [0, 0, 0, 0, 0, 0, 0, HUGE]),),
        ),
        added(
            make_node("Range", ["start", "end", "step"], ["extra"]),
            weights=(tensor("start", 0), tensor("end", HUGE), tensor("step", 1)),
        ),
        _resized(),
        added(
            make_node("Conv", ["images", "kernel"], ["extra"], pads=[10**5] * 4),
            weights=(tensor("kernel", np.zeros((1, 1, 3, 3)), np.float32),),
        ),
        _doubled(),
        _many_tensors(),
        _size_of_one_batch(),
    ],
    ids=[
        "constant",
        "expand",
        "tile",
        "pad",
        "range",
        "resize",
        "conv",
        "doubled",
        "many",
        "batch",
    ],
)
def test_a_small_model_that_wants_all_memory_is_refused(hostile: Any) -> None:
    assert len(hostile.SerializeToString()) < 100_000
    assert refusal(hostile) == "its tensors take more than 1 GiB"


def test_sizes_that_depend_on_the_pixels_are_refused() -> None:
    expected = "the output shape of its operator ConstantOfShape depends on the images"
    assert refusal(_random_size()) == expected


def test_a_tensor_that_claims_to_be_huge_is_refused() -> None:
    claim = TensorProto(name="extra", data_type=FLOAT, dims=[HUGE], raw_data=b"\0\0\0\0")
    assert refusal(added(weights=(claim,))) == f"it has a tensor of shape [{HUGE}]"
    constant = added(make_node("Constant", [], ["extra"], value=claim))
    assert refusal(constant) == f"it has a tensor of shape [{HUGE}]"


# ---- time ----


def _loop(body: GraphProto, output: str = "changed") -> NodeProto:
    return make_node("Loop", ["", "", "images"], [output], body=body)


def _endless(*nodes: NodeProto) -> GraphProto:
    value = make_tensor_value_info
    return make_graph(
        [*nodes, make_node("Identity", ["going"], ["on"]), make_node("Relu", ["x"], ["y"])],
        "body",
        [value("i", INT64, []), value("going", TensorProto.BOOL, []), value("x", FLOAT, None)],
        [value("on", TensorProto.BOOL, []), value("y", FLOAT, None)],
    )


def _scan() -> NodeProto:
    value = make_tensor_value_info
    body = make_graph(
        [make_node("Relu", ["x"], ["y"])], "b", [value("x", FLOAT, None)], [value("y", FLOAT, None)]
    )
    return make_node("Scan", ["images"], ["changed"], body=body, num_scan_inputs=1)


def _if(depth: int) -> GraphProto:
    node = make_node("Relu", ["images"], ["y"])
    if depth:
        node = make_node("If", ["yes"], ["y"], then_branch=_if(depth - 1), else_branch=_if(0))
    return make_graph([node], "branch", [], [make_tensor_value_info("y", FLOAT, None)])


def _large_convolutions() -> ModelProto:
    names = ["images", *(f"conv{i}" for i in range(20))]
    first = tensor("first", np.zeros((256, 1, 3, 3)), np.float32)
    other = tensor("other", np.zeros((256, 256, 3, 3)), np.float32)
    nodes = [
        make_node("Conv", [a, "first" if a == "images" else "other"], [b], pads=[1] * 4)
        for a, b in pairwise(names)
    ]
    return added(*nodes, make_node("Identity", [names[-1]], ["extra"]), weights=(first, other))


@pytest.mark.parametrize(
    ("hostile", "what"),
    [
        (model(_loop(_endless())), "it uses the operator Loop"),
        (model(_loop(_endless(_loop(_endless(), "z")))), "it uses the operator Loop"),
        (model(_scan()), "it uses the operator Scan"),
        (
            model(make_node("If", ["yes"], ["changed"], then_branch=_if(8), else_branch=_if(0))),
            "it uses the operator If",
        ),
        (_large_convolutions(), "it takes more than 2e+10 operations for a few images"),
        (
            added(
                make_node("Tile", ["images", "repeats"], ["wide"]),
                make_node("Einsum", ["wide", "wide"], ["extra"], equation="abcd,efgh->ah"),
                weights=(tensor("repeats", [1, 100, 1, 1]),),
            ),
            "it takes more than 2e+10 operations for a few images",
        ),
        (
            added(*[make_node("Relu", ["images"], [f"r{i}"]) for i in range(5000)]),
            "it has 5,005 nodes, more than 2,000",
        ),
    ],
    ids=["loop", "nested", "scan", "if", "convolutions", "einsum", "nodes"],
)
def test_a_model_that_does_not_finish_is_refused(hostile: Any, what: str) -> None:
    assert refusal(hostile) == what


# ---- what is not a plain network ----


def _external(location: str) -> TensorProto:
    weight = TensorProto(name="extra", data_type=FLOAT, dims=[10], data_location="EXTERNAL")
    weight.external_data.add(key="location", value=location)
    return weight


def _function() -> ModelProto:
    identity = [make_node("Relu", ["x"], ["y"])]
    opsets = [make_opsetid("", 20)]
    result = model(make_node("Own", ["images"], ["changed"], domain="own"))
    result.functions.append(make_function("own", "Own", ["x"], ["y"], identity, opsets))
    return result


def _sparse() -> TensorProto:
    values = tensor("extra", [1], np.float32)
    return make_sparse_tensor(values, tensor("indices", [0]), [HUGE])


def _reference() -> NodeProto:
    node = make_node("Softmax", ["images"], ["changed"])
    attribute = make_attribute("axis", 1)
    attribute.ref_attr_name = "other"
    node.attribute.append(attribute)
    return node


def _hidden_graph() -> NodeProto:
    """A graph in an attribute that calls itself a number."""
    node = make_node("Softmax", ["images"], ["changed"], axis=1)
    node.attribute[0].g.CopyFrom(_if(0))
    return node


TEXT: Any = [b"text"]
CONTEXT: dict[str, Any] = {
    "domain": "com.microsoft",
    "ep_cache_context": "canary.bin",
    "embed_mode": 0,
}


@pytest.mark.parametrize(
    ("hostile", "what"),
    [
        (added(weights=(_external("canary.bin"),)), "it has external data, weights in another"),
        (added(weights=(_external("/etc/hostname"),)), "it has external data, weights in another"),
        (
            added(make_node("Constant", [], ["extra"], value=_external("canary.bin"))),
            "it has external data, weights in another",
        ),
        (
            model(make_node("EPContext", ["images"], ["changed"], **CONTEXT)),
            "it uses the operator com.microsoft:EPContext",
        ),
        (
            model(make_node("Own", ["images"], ["changed"], domain="x")),
            "it uses the operator x:",
        ),
        (_function(), "it has functions, training steps or sparse tensors"),
        (
            changed(lambda m: m.graph.sparse_initializer.append(_sparse())),
            "it has functions, training steps or sparse tensors",
        ),
        (
            changed(lambda m: m.opset_import.append(make_opsetid("com.microsoft", 1))),
            "it uses operators outside the ONNX standard",
        ),
        (changed(lambda m: m.ClearField("opset_import")), "it uses operators outside the ONNX"),
        (changed(lambda m: m.opset_import[0].__setattr__("version", 7)), "its opset 7 is not"),
        (
            model(make_node("RandomNormalLike", ["images"], ["changed"])),
            "it uses the operator RandomNormalLike",
        ),
        (model(make_node("NonZero", ["images"], ["changed"])), "it uses the operator NonZero"),
        (added(weights=(make_tensor("extra", 8, [1], TEXT),)), "it has a tensor of type 8"),
        (added(weights=(TensorProto(name="extra", data_type=99),)), "it has a tensor of type 99"),
        (model(_reference()), "its operator Softmax has the attribute axis"),
        (model(_hidden_graph()), "its operator Softmax has the attribute axis"),
        (
            model(make_node("Relu", ["nowhere"], ["changed"])),
            "an input of its operator Relu is not defined",
        ),
        (
            model(make_node("Relu", ["images"], ["logits"])),
            "it defines a tensor twice",
        ),
        (added(weights=(tensor("images", [1.0], np.float32),)), "it defines a tensor twice"),
        (model(make_node("Relu", ["images"], ["images"])), "it defines a tensor twice"),
        (
            model(make_node("Softmax", ["images"], ["changed"], axis=10**9)),
            "the shapes of its operator Softmax do not match",
        ),
        (
            model(make_node("Concat", ["images", "images"], ["changed"], axis=1)),
            "its logits are not ten numbers for each image",
        ),
        (
            changed(lambda m: m.graph.__setattr__("doc_string", "x" * 5 * 2**20)),
            "besides weights it has more than 4 MiB",
        ),
    ],
    ids=lambda value: value.replace(" ", "_")[:60] if isinstance(value, str) else "",
)
def test_what_is_not_a_plain_network_is_refused(hostile: Any, what: str) -> None:
    assert refusal(hostile).startswith(what)


@pytest.mark.parametrize("threshold", [None, "", "high", "nan", "inf", "-0.1", "1.01"])
def test_a_threshold_that_is_not_a_probability_is_refused(threshold: str | None) -> None:
    notes = {} if threshold is None else {"threshold": threshold}
    assert refusal(noting(**notes)) == "its metadata has no threshold from 0 to 1"


@pytest.mark.parametrize(
    ("note", "what"),
    [
        ("x" * 70_000, "its metadata is too long or not printable"),
        ("\x1b]0;owned\x07", "its metadata is too long or not printable"),
        (r'"\u001b[2J"'.replace("u001b", "u009b"), "its metadata is too long or not printable"),
        ("[" * 20_000, "its metadata is too long or not printable"),
        ("1e999", "its metadata is too long or not printable"),
    ],
    ids=["long", "escape", "escape in JSON", "nested", "infinite"],
)
def test_metadata_that_cannot_be_shown_are_refused(note: Any, what: str) -> None:
    assert refusal(noting(threshold="0.5", network=note)) == what
    if len(note) < 100:
        assert refusal(noting(threshold="0.5", **{note: "x"})) == what


def test_settings_for_the_runtime_are_refused() -> None:
    settings = json.dumps({"session_options": {"enable_profiling": 1}})
    assert refusal(noting(threshold="0.5", ort_config=settings)).endswith("for ONNX Runtime")


# ---- answers ----


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(value: Any) -> None:
    hostile = added(weights=(tensor("extra", [value], np.float32),))
    assert refusal(hostile).startswith(
        "a trial run failed: The model's outputs are not finite, or its probabilities"
    )


def test_outputs_that_are_no_probabilities_are_refused() -> None:
    hostile = changed(lambda m: m.graph.node[-1].__setattr__("op_type", "Relu"))
    assert refusal(hostile).startswith(
        "a trial run failed: The model's outputs are not finite, or its probabilities"
    )


def test_an_output_that_is_not_finite_for_some_images_only_is_refused_when_it_is_read(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sometimes.onnx"
    ratio = make_node("Div", ["sum of ink", "sum of ink"], ["ratio"])
    total = make_node("ReduceSum", ["images", "axes"], ["sum of ink"])
    hostile = model(
        total,
        ratio,
        make_node("Mul", ["images", "ratio"], ["changed"]),
        weights=(tensor("axes", [1, 2, 3]),),
    )
    path.write_bytes(hostile.SerializeToString())
    reader = Reader(path)
    ink = np.ones((MAX_BATCH + 1, 28, 28), np.float32)
    assert reader.classify(ink)[1].shape == (MAX_BATCH + 1, 10)
    with pytest.raises(InputError, match="not finite, or its probabilities"):
        reader.classify(0 * ink)


# ---- the process ----


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        Reader(path)
    first, second = str(error.value).splitlines()
    assert second == "Give an ONNX file written by export."
    return first.removeprefix(f"{path} cannot be used as a model: ")


def _division_by_zero() -> bytes:
    pool = make_node("MaxPool", ["images"], ["changed"], kernel_shape=[2, 2], strides=[0, 0])
    return bytes(model(pool).SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that is a message itself."""
    message = bytes(TensorProto(raw_data=content).SerializeToString())  # of the field 9
    return bytes([number << 3 | 2]) + message[1:]


def test_a_file_of_many_empty_parts_is_refused(tmp_path: Path) -> None:
    nodes = _field(1, b"") * 2**22  # in memory fifty times as large
    assert refused(tmp_path / "empty.onnx", _field(7, nodes)) == "it has no inputs and outputs."


def test_a_file_of_deeply_nested_parts_is_refused(tmp_path: Path) -> None:
    graph = b""
    for _ in range(3000):
        graph = _field(1, _field(5, _field(6, graph)))  # a node, its attribute, a graph in that
    reason = refused(tmp_path / "deep.onnx", _field(7, graph))
    assert reason == "it is damaged, or not an ONNX file."


def test_a_stride_of_zero_is_refused(tmp_path: Path) -> None:
    reason = refused(tmp_path / "zero.onnx", _division_by_zero())
    assert reason == "the shapes of its operator MaxPool do not match."


def test_a_model_that_crashes_the_check_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_lit.reading.models.CHECK", "import os; os.abort()")
    content = model().SerializeToString()
    assert refused(tmp_path / "crash.onnx", content) == "the check failed."


def test_a_check_that_takes_too_long_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnist_lit.reading.models.CHECK_SECONDS", 0.01)
    reason = refused(tmp_path / "slow.onnx", model().SerializeToString())
    assert reason == "the check takes more than 0.01 seconds."


def test_the_runtimes_own_format_is_refused(tmp_path: Path) -> None:
    """It is known by four bytes, which an ONNX file can have in the same place."""
    assert refused(tmp_path / "own.ort", b"\x20\0\0\0ORTM" + bytes(100)) != ""
    both = model()
    both.ir_version = 10
    content = b"\x08\x0a\x12\x04ORTM" + both.SerializeToString()
    (tmp_path / "both.onnx").write_bytes(content)
    assert Reader(tmp_path / "both.onnx").threshold == 0.5  # taken for what was checked


def test_no_module_of_the_working_directory_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("onnx", "resource", "numpy", "mnist_lit"):
        Path(f"{name}.py").write_text("open('executed', 'w')")
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", ".")])
    Path("plain.onnx").write_bytes(model().SerializeToString())
    Reader("plain.onnx")
    assert not Path("executed").exists()


def test_a_model_reads_no_other_file(mnist_lit: Command, tmp_path: Path) -> None:
    np.full(10, 1000, np.float32).tofile("canary.bin")
    hostile = model(weights=())
    hostile.graph.initializer.append(_external("canary.bin"))
    hostile.graph.node[1].output[0] = "product"
    hostile.graph.node.insert(2, make_node("Add", ["product", "extra"], ["logits"]))
    Path("thief.onnx").write_bytes(hostile.SerializeToString())
    outcome = mnist_lit("read", "missing.png", "--model=thief.onnx")
    assert outcome.status == 2
    assert outcome.err == (
        "error: thief.onnx cannot be used as a model: it has external data, weights in "
        "another file.\nGive an ONNX file written by export.\n"
    )


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "long", "large"])
def test_what_is_not_a_file_to_load_is_refused(
    mnist_lit: Command, tmp_path: Path, kind: str
) -> None:
    os.mkfifo("pipe")
    Path("folder").mkdir()
    with Path("large").open("wb") as file:
        file.truncate(2**40)
    names = {"device": "/dev/zero", "long": "x" * 300}
    outcome = mnist_lit("read", "missing.png", f"--model={names.get(kind, kind)}")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 2
