"""The command collect."""

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from mnist_lit.own_digits.storage import OwnDigit, save
from mnist_lit.reading.reader import Reader
from tests.conftest import Command, Outcome
from tests.support.pages import page


@pytest.fixture
def collect(mnist_lit: Command, exported: Path) -> Command:
    """Call ``collect`` with the small model, where ``page.png`` has the lines 31 and 4159."""
    Image.fromarray(page(exported, "31", "4159")).save("page.png")

    def call(*args: str) -> Outcome:
        return mnist_lit("collect", f"--model={exported}", "--into=hands/anna", *args)

    return call


def files(suffix: str = ".png") -> list[Path]:
    return sorted(Path("hands/anna").glob(f"*/*{suffix}"))


def test_every_digit_is_saved_as_the_reader_saw_it(collect: Command, exported: Path) -> None:
    outcome = collect("page.png", "--text=31/4159")
    assert (outcome.status, outcome.err) == (0, "")
    assert "Saved: 6 digits in hands/anna\n" in outcome.out
    seen = {
        (each.glyph * 255).round().tobytes(): each
        for each in Reader(exported).read("page.png").digits
    }
    for path in files():
        image = np.asarray(Image.open(path))
        digit = seen.pop(image.astype(np.float32).tobytes())
        assert path.parent.name == str(digit.digit)
        assert path.stem == hashlib.sha256(image.tobytes()).hexdigest()[:16]
        origin = json.loads(path.with_suffix(".json").read_text())
        assert origin["label"] == origin["read_as"] == digit.digit
        assert (origin["source"], origin["box"]) == ("page.png", list(digit.box))
        assert origin["line"] == (1 if digit.digit in (3, 1) and digit.box[1] < 120 else 2)
    assert not seen


def test_it_shows_what_it_saves(collect: Command) -> None:
    outcome = collect("page.png", "--text=38/4159")
    lines = outcome.out.splitlines()
    assert lines[:4] == [
        "page.png",
        "line  text              misread",
        "   1  38                8 as 1",
        "   2  4159              -",
    ]
    assert lines[4] == "Picture: hands/anna-page.png"
    with Image.open("hands/anna-page.png") as picture:
        assert picture.width >= 300
    assert [line.split()[1:] for line in lines[5:7]] == [
        [*"0123456789"],
        ["0", "1", "0", "1", "1", "1", "0", "0", "1", "1"],
    ]


def test_the_folders_are_those_of_torchvision(collect: Command) -> None:
    collect("page.png", "--text=31/4159")
    dataset = ImageFolder("hands/anna")
    assert dataset.classes == ["1", "3", "4", "5", "9"]
    assert len(dataset) == 6


def test_nothing_is_saved_twice(collect: Command) -> None:
    collect("page.png", "--text=31/4159")
    before = {path: path.stat().st_mtime_ns for path in files()}
    again = collect("page.png", "--text=31/4159")
    assert "Saved: 0 digits in hands/anna; 6 are there already" in again.out
    contrary = collect("page.png", "--text=38/4159")
    assert (
        contrary.out.count("Left out: a digit that was saved with another label, hands/anna/1/")
        == 1
    )
    assert {path: path.stat().st_mtime_ns for path in files()} == before


def test_a_dry_run_saves_no_digits(collect: Command) -> None:
    outcome = collect("page.png", "--text=31/4159", "--dry-run")
    assert "Warning" not in outcome.out
    assert (
        "most digits were read otherwise" in collect("page.png", "--text=13/9514", "--dry-run").out
    )
    assert "Would save: 6 digits in hands/anna" in outcome.out
    assert not Path("hands/anna").exists()


def test_lines_that_do_not_match_are_named_and_left_out(collect: Command) -> None:
    outcome = collect("page.png", "--text=312/4159")
    assert outcome.status == 1
    assert "Left out: line 1 of the picture, 31: no line of the text matches\n" in outcome.out
    assert "Not found: line 1 of the text, 312: no line of the picture matches\n" in outcome.out
    assert "Saved: 4 digits" in outcome.out
    nothing = collect("page.png", "--text=1234567")
    assert nothing.status == 2
    assert nothing.err.splitlines()[0] == "error: No line has as many digits as the text says."


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["page.png"], "error: --text is missing."),
        (["page.png", "--text=12a"], "error: --text '12a' is not digits."),
        (["page.png", "--text=1//2"], "error: --text '1//2' is not digits."),
        (["none.png", "--text=1"], "error: The picture none.png does not exist."),
        (["none.zip"], "error: The ZIP file none.zip does not exist."),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_what_to_do_in_another(
    collect: Command, args: list[str], message: str
) -> None:
    outcome = collect(*args)
    assert outcome.status == 2
    assert outcome.err.startswith(message)
    assert len(outcome.err.splitlines()) == 2


# ---- corrections from the page ----


def zipped(
    entries: dict[str, bytes], name: str = "corrections.zip", compression: int = zipfile.ZIP_STORED
) -> str:
    with zipfile.ZipFile(name, "w", compression) as archive:
        for path, content in entries.items():
            archive.writestr(path, content)
    return name


def png(size: int = 28, color: int = 0) -> bytes:
    buffer = io.BytesIO()
    image = np.full((size, size), color, np.uint8)
    image[5:20, 12:15] = 255
    Image.fromarray(image).convert("RGBA").save(buffer, "PNG")
    return buffer.getvalue()


NAME = "7/0123456789abcdef"


def test_a_zip_file_of_the_page_is_collected(collect: Command) -> None:
    origin = b'{"label": 7, "source": "page", "read_as": 1}'
    outcome = collect(zipped({f"{NAME}.png": png(), f"{NAME}.json": origin}))
    assert (outcome.status, outcome.err) == (0, "")
    [path] = files()
    assert path.parent.name == "7"
    assert np.asarray(Image.open(path)).shape == (28, 28)
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads(origin)


@pytest.mark.parametrize(
    ("entries", "what"),
    [
        ({}, " has no digits."),
        ({"readme.txt": b"hello"}, " has no digits."),
        ({"../7/0123456789abcdef.png": png()}, " has no digits."),
        ({"/7/0123456789abcdef.png": png()}, " has no digits."),
        ({"12/0123456789abcdef.png": png()}, " has no digits."),
        ({f"{NAME}.png": png(56)}, f": {NAME}.png: The picture has more than 784 pixels."),
        ({f"{NAME}.png": png(24)}, f": {NAME}.png is not 28 pixels wide and high."),
        ({f"{NAME}.png": b"no picture"}, f": {NAME}.png: The picture is not in a known"),
        ({f"{NAME}.png": b"\0" * 30_000}, f": {NAME}.png has more than 20,000 bytes."),
    ],
)
def test_a_zip_file_from_a_stranger_writes_nothing_else(
    collect: Command, entries: dict[str, bytes], what: str, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    path = zipped(entries, str(tmp_path.parent / "stranger.zip"))
    outcome = collect(path)
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first.startswith(f"error: {path}{what}")
    assert second == "Give a ZIP file that the page of serve has written."
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_file_whose_decompression_nothing_bounds_is_refused(
    collect: Command, compression: int
) -> None:
    outcome = collect(zipped({f"{NAME}.png": png()}, compression=compression))
    assert outcome.status == 2
    assert outcome.err.startswith("error: corrections.zip is compressed in an unusual way.\n")


def test_a_zip_file_of_too_many_digits_is_refused(
    collect: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped({f"{NAME}.png": png(), "a": b"", "b": b""})
    monkeypatch.setattr("mnist_lit.own_digits.storage.MAX_ENTRIES", 1)
    assert "has more than 2 files." in collect(path).err
    monkeypatch.setattr("mnist_lit.own_digits.storage.MAX_ZIP", 100)
    assert "is larger than 0.0001 MB." in collect(path).err


def test_a_pipe_is_no_zip_file(collect: Command) -> None:
    os.mkfifo("pipe.zip")
    outcome = collect("pipe.zip")
    assert outcome.status == 2
    assert outcome.err.startswith("error: pipe.zip is a pipe or a device, not a ZIP file.\n")


def test_an_origin_that_is_no_object_is_dropped(collect: Command) -> None:
    assert collect(zipped({f"{NAME}.png": png(), f"{NAME}.json": b"[1"})).status == 0
    [path] = files(".json")
    assert json.loads(path.read_text()) == {"label": 7}


def test_a_digit_whose_file_cannot_be_written_is_an_error(
    collect: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(Exception, match="No space left on device"):
        save(OwnDigit(np.zeros((28, 28), np.uint8), 3), Path("full"))
    assert not list(Path("full").rglob("*.png"))
    assert not list(Path("full").rglob("*.partial"))
