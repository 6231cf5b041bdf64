import copy
import io
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import mnist_lit
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.reading.glyphs import find_glyphs
from mnist_lit.reading.models import MAX_BATCH, PACKAGED
from mnist_lit.reading.pictures import open_picture, to_gray
from mnist_lit.reading.reader import Reader, percent
from tests.support import paper
from tests.support.pages import page


@pytest.fixture(scope="module")
def reader(exported: Path) -> Reader:
    return Reader(exported)


@pytest.fixture(scope="module")
def sheet(exported: Path) -> paper.Picture:
    return page(exported, "31", "4159")


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    return paper.mnist()[0][:150].astype(np.float32) / np.float32(255)


def png(picture: paper.Picture) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()


# ---- answers ----


@pytest.mark.parametrize("count", [1, MAX_BATCH, MAX_BATCH + 1, 2 * MAX_BATCH + 3, 150])
def test_the_answers_are_those_of_the_checkpoint(
    finished: Path, reader: Reader, images: NDArray[np.float32], count: Any
) -> None:
    model = DigitClassifier.load_from_checkpoint(
        finished / "lightning_logs/version_0/checkpoints/best.ckpt",
        map_location="cpu",
        weights_only=True,
    ).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(images[:count, None]))
    logits, probabilities = reader.classify(images[:count])
    assert logits.dtype == probabilities.dtype == np.float32
    assert (logits.argmax(axis=1) == expected.argmax(dim=1).numpy()).all()
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)
    calibrated = (expected / float(reader.metadata["temperature"])).softmax(dim=1)
    np.testing.assert_allclose(probabilities, calibrated.numpy(), atol=1e-5)


def test_no_images_have_no_answers(reader: Reader, images: NDArray[np.float32]) -> None:
    logits, probabilities = reader.classify(images[:0])
    assert logits.shape == probabilities.shape == (0, 10)


def test_a_page_is_read_line_by_line(reader: Reader, sheet: paper.Picture) -> None:
    reading = reader.read(sheet)
    assert reading.text == "31\n4159"
    assert [[each.digit for each in line] for line in reading.lines] == [[3, 1], [4, 1, 5, 9]]
    assert [each.digit for each in reading.digits] == [3, 1, 4, 1, 5, 9]


def test_a_digit_comes_with_its_place_its_glyph_and_the_answer_for_it(
    reader: Reader, sheet: paper.Picture
) -> None:
    reading = reader.read(sheet)
    glyphs = [glyph for line in find_glyphs(to_gray(sheet)) for glyph in line]
    _, probabilities = reader.classify(np.stack([glyph.image for glyph in glyphs]))
    for each, glyph, row in zip(reading.digits, glyphs, probabilities, strict=True):
        assert each.box == glyph.box
        assert (each.glyph == glyph.image).all()
        np.testing.assert_allclose(each.probabilities, row, atol=1e-6)
        assert each.digit == row.argmax()
        assert each.probability == each.probabilities[each.digit]
        assert each.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_reading_is_represented_by_its_text_and_a_digit_without_its_arrays(
    reader: Reader, sheet: paper.Picture
) -> None:
    reading = reader.read(sheet)
    assert repr(reading) == r"Reading(text='31\n4159')"
    assert all(len(repr(digit)) < 120 and "array" not in repr(digit) for digit in reading.digits)


def test_a_reading_can_be_copied_and_sent_to_another_process(
    reader: Reader, sheet: paper.Picture
) -> None:
    reading = reader.read(sheet)
    for copied in (copy.deepcopy(reading), pickle.loads(pickle.dumps(reading))):
        assert copied.text == reading.text
        assert [len(line.numbers) for line in copied.lines] == [1] * len(reading.lines)


def test_numbers_far_apart_on_one_line_are_told_apart(exported: Path) -> None:
    one, other = page(exported, "31", "45"), page(exported, "415", "67")
    reading = Reader(exported).read(np.concatenate([one, other], 1))
    assert reading.text == "31 415\n45 67"
    numbers = [[[each.digit for each in n] for n in line.numbers] for line in reading.lines]
    assert numbers == [[[3, 1], [4, 1, 5]], [[4, 5], [6, 7]]]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_picture_that_lies_sideways_or_upside_down_is_read_turned(turns: int) -> None:
    one, other = page(PACKAGED, "20251", "7403986"), page(PACKAGED, "42", "33")
    height = min(len(one), len(other))
    picture = np.concatenate([one[:height], other[:height]], 1)
    upright = Reader().read(picture)
    turned = np.ascontiguousarray(np.rot90(picture, turns))
    reading = Reader().read(turned)
    assert (reading.text, reading.rotation) == ("20251 42\n7403986 33", 90 * turns)
    for each, same in zip(reading.digits, upright.digits, strict=True):
        left, top, right, bottom = each.box
        box = np.zeros(turned.shape[:2], np.uint8)
        box[top:bottom, left:right] = 1
        rows, columns = (np.flatnonzero(np.rot90(box, -turns).any(axis)) for axis in (1, 0))
        found = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        assert np.abs(np.subtract(found, same.box)).max() <= 4


def test_a_page_of_many_digits_has_the_answers_of_each_alone(
    reader: Reader, exported: Path
) -> None:
    rows = ["0123456789"] * 7  # more than are answered at once
    many = reader.read(page(exported, *rows))
    assert many.text == "\n".join(rows)
    alone = [reader.classify(each.glyph[None])[1][0] for each in many.digits]
    np.testing.assert_allclose([each.probabilities for each in many.digits], alone, atol=1e-6)


def test_a_digit_below_the_threshold_is_doubtful(exported: Path, sheet: paper.Picture) -> None:
    surest, *_, least = sorted(Reader(exported).read(sheet).digits, key=lambda d: -d.probability)
    assert least.probability < surest.probability
    for threshold, doubtful in ((0, 0), (surest.probability, 5), (1.0, 6)):
        digits = Reader(exported, threshold).read(sheet).digits
        assert sum(each.doubtful for each in digits) == doubtful
        assert all(each.doubtful == (each.probability < threshold) for each in digits)
    assert Reader(exported).threshold == float(Reader(exported).metadata["threshold"])


@pytest.mark.parametrize("picture", [np.full((300, 400, 3), 250), np.zeros((28, 28))])
def test_without_ink_there_is_no_digit(reader: Reader, picture: Any) -> None:
    reading = reader.read(picture.astype(np.uint8))
    assert (reading.lines, reading.digits, reading.text) == ([], [], "")


def test_threads_can_share_a_reader(reader: Reader, exported: Path) -> None:
    texts = ["12", "345", "6\n78", "90\n1"] * 4
    pages = [page(exported, *text.split()) for text in texts]
    with ThreadPoolExecutor(2) as threads:
        readings = list(threads.map(reader.read, pages))
    assert [reading.text for reading in readings] == texts
    for reading, picture in zip(readings, pages, strict=True):
        for each, same in zip(reading.digits, reader.read(picture).digits, strict=True):
            assert (each.probabilities == same.probabilities).all()


# ---- sources ----


@pytest.mark.parametrize(
    "source",
    [
        lambda path: path,
        str,
        lambda path: path.read_bytes(),
        lambda path: io.BytesIO(path.read_bytes()),
        lambda path: Image.open(io.BytesIO(path.read_bytes())),
        open_picture,
        lambda path: open_picture(path)[..., 0] / 255,
    ],
    ids=["path", "string", "contents", "file", "image", "array", "floats"],
)
def test_a_picture_may_come_in_any_form(
    reader: Reader, sheet: paper.Picture, tmp_path: Path, source: Any
) -> None:
    path = tmp_path / "page.png"
    path.write_bytes(png(sheet))
    assert reader.read(source(path)).text == "31\n4159"


def test_mnists_own_image_is_read_as_the_network_would(
    reader: Reader, images: NDArray[np.float32]
) -> None:
    _, probabilities = reader.classify(images)
    sure = np.flatnonzero(probabilities.max(axis=1) > 0.99)
    assert sure.size > 5
    for index in sure:
        reading = reader.read(images[index])
        assert reading.text == str(probabilities[index].argmax())
        assert np.abs(reading.digits[0].glyph - images[index]).max() < 0.5


def test_what_is_no_picture_is_an_input_error(reader: Reader) -> None:
    with pytest.raises(InputError) as error:
        reader.read(b"no picture")
    assert len(str(error.value).splitlines()) == 2


# ---- models ----

Change = Callable[[onnx.ModelProto], None]


def _without(name: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        kept = [each for each in model.metadata_props if each.key != name]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)

    return change


def _noting(name: str, value: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        _without(name)(model)
        model.metadata_props.add(key=name, value=value)

    return change


def _fixed(model: onnx.ModelProto) -> None:
    for each in (*model.graph.input, *model.graph.output):
        each.type.tensor_type.shape.dim[0].dim_value = 2


def _renamed(model: onnx.ModelProto) -> None:
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["scores"]))
    model.graph.output[0].name = "scores"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_without("threshold"), "its metadata has no threshold"),
        (_noting("threshold", "high"), "its metadata has no threshold"),
        (_fixed, "the number of images is fixed"),
        (_renamed, "it has images ['n', 1, 28, 28], scores ['n', 10], probabilities"),
    ],
)
def test_a_model_not_written_by_export_is_refused(
    exported: Path, tmp_path: Path, change: Change, what: str
) -> None:
    model = onnx.load(exported)
    change(model)
    refuses(tmp_path / "changed.onnx", model.SerializeToString(), what)


def test_the_network_of_another_task_is_refused(tmp_path: Path) -> None:
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    single = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node("Relu", ["data"], ["scores"])],
        "other",
        [value("data", single, ["n", 3, 224, 224])],
        [value("scores", single, ["n", 3, 224, 224])],
    )
    opsets = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, ir_version=9, opset_imports=opsets)
    what = "it has data ['n', 3, 224, 224], scores ['n', 3, 224, 224]"
    refuses(tmp_path / "other.onnx", model.SerializeToString(), what)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x09" * 1000])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    refuses(tmp_path / "broken.onnx", content, "")


def test_a_damaged_model_is_refused(exported: Path, tmp_path: Path) -> None:
    content = exported.read_bytes()
    refuses(tmp_path / "cut.onnx", content[: len(content) // 2], "it is damaged")


def refuses(path: Path, content: bytes, what: str) -> None:
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        Reader(path)
    first, second = str(error.value).splitlines()
    assert first.startswith(f"{path} cannot be used as a model: {what}")
    assert second == "Give an ONNX file written by export."


def test_a_missing_model_is_told_with_the_command_that_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Reader(tmp_path / "missing.onnx")
    first, second = str(error.value).splitlines()
    assert first == f"The model {tmp_path / 'missing.onnx'} does not exist."
    assert "python -m mnist_lit export --ckpt_path best" in second


@pytest.mark.parametrize("threshold", [-0.1, 1.01, float("nan"), "0.5"])
def test_a_threshold_that_is_no_probability_is_refused(exported: Path, threshold: Any) -> None:
    what = re.escape(f"The threshold is {threshold!r}.\nGive a probability from 0 to 1.")
    with pytest.raises(InputError, match=what):
        Reader(exported, threshold)


def test_a_checkpoint_is_no_model_and_the_command_that_exports_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "best.ckpt"
    path.write_bytes(b"PK\x03\x04")
    what_to_do = re.escape(
        f"\nExport the checkpoint: python -m mnist_lit export --ckpt_path {path}"
    )
    with pytest.raises(mnist_lit.InputError, match=what_to_do):
        Reader(path)


def test_only_certainty_is_shown_as_100_percent() -> None:
    assert [percent(p, 2) for p in (0, 0.5, 0.99996, 1)] == ["0.00%", "50.00%", "99.99%", "100.00%"]


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_a_percentage_that_needs_no_rounding_is_not_rounded(decimals: int) -> None:
    parts = 10 ** (decimals + 2)
    for part in range(parts + 1):  # 0.0003 among them, of which binary arithmetic makes 0.02 %
        assert (
            percent(float(f"{part}e-{decimals + 2}"), decimals)
            == f"{100 * part / parts:.{decimals}f}%"
        )


# ---- imports ----


def test_the_package_offers_the_reader_and_imports_it_only_then() -> None:
    code = (
        "import sys, mnist_lit; heavy = {'numpy', 'onnxruntime', 'PIL', 'cv2'};"
        "assert not heavy & sys.modules.keys(); from mnist_lit import Reader;"
        "assert heavy <= sys.modules.keys(); Reader();"
        "assert not {'torch', 'lightning', 'onnx'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert mnist_lit.Reader is Reader
    with pytest.raises(AttributeError, match="no attribute 'reader_of_minds'"):
        _ = mnist_lit.reader_of_minds


def test_reading_tells_nobody_and_leaves_nothing(tmp_path: Path) -> None:
    # ONNX Runtime keeps an identity of the machine beside what it is going to send.
    unset = ("CI", "ORT_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    code = "from mnist_lit import Reader; import numpy; Reader().read(numpy.zeros((28, 28)))"
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not list(tmp_path.iterdir())
