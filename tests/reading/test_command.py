import errno
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from mnist_lit.reading.drawing import draw
from mnist_lit.reading.pictures import open_picture
from mnist_lit.reading.reader import Reader, Reading, percent
from tests.conftest import Command, Outcome
from tests.support import paper
from tests.support.pages import page


@pytest.fixture
def read(mnist_lit: Command, exported: Path) -> Command:
    """Call ``read`` with the small model, where some pages lie.

    ``page.png`` has two lines of digits, ``seven.png`` one digit, ``blank.png`` none, and
    ``broken.png`` is no picture.
    """
    for name, picture in {
        "page": page(exported, "31", "4159"),
        "seven": page(exported, "7"),
        "blank": np.full((200, 300, 3), 250, np.uint8),
    }.items():
        Image.fromarray(picture).save(f"{name}.png")
    Path("broken.png").write_bytes(b"no picture")

    def call(*args: str) -> Outcome:
        return mnist_lit("read", f"--model={exported}", *args)

    return call


def shown(picture: paper.Picture, drawing: paper.Picture) -> bool:
    """Whether the ink of a picture, enlarged to 480 pixels, is in a drawing."""
    scale = 480 / max(picture.shape)
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    large = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.NEAREST))
    left = (drawing.shape[1] - size[0]) // 2
    same = (drawing[: size[1], left : left + size[0]] == large).all(axis=2)
    ink = large.max(axis=2) < 128
    return bool(same[ink].mean() > 0.9)  # a word may lie over some


# ---- text ----


def test_a_digit_is_printed_with_its_probability_and_its_place(
    read: Command, exported: Path
) -> None:
    outcome = read("seven.png")
    assert (outcome.status, outcome.err) == (0, "")
    [digit] = Reader(exported).read("seven.png").digits
    lines = outcome.out.splitlines()
    assert lines[:3] == ["7", "", "digit  probability   left    top  right  bottom"]
    assert lines[3].split() == ["7", percent(digit.probability, 2), *map(str, digit.box)]
    assert len(lines) == 4


def test_lines_of_digits_are_printed_as_lines(read: Command) -> None:
    outcome = read("page.png", "--threshold=0")
    lines = outcome.out.splitlines()
    assert lines[:3] == ["31", "4159", ""]
    assert [line[:1] for line in lines[4:]] == [*"31", "", *"4159"]


def test_several_pictures_are_told_apart_by_their_names(read: Command) -> None:
    outcome = read("seven.png", "page.png", "--threshold=0")
    assert (outcome.status, outcome.err) == (0, "")
    assert re.search(r"^seven.png:\n7\n\n.+\n\npage.png:\n31\n4159\n\n", outcome.out, re.DOTALL)


def test_a_doubtful_digit_has_a_question_mark_and_the_mark_is_explained(
    read: Command, exported: Path
) -> None:
    outcome = read("page.png", "--threshold=1")
    lines = outcome.out.splitlines()
    assert lines[:2] == ["3?1?", "4?1?5?9?"]
    assert lines[-1] == "? marks a doubtful digit: probability below 100.00%, or perhaps no digit"
    assert [line[:2] for line in lines[4:-1]] == ["3?", "1?", "", "4?", "1?", "5?", "9?"]
    assert "100.00%" not in "".join(lines[:-1])  # what is shown does not contradict the threshold

    digits = Reader(exported).read("page.png").digits
    least = min(each.probability for each in digits)
    between = (least + min(each.probability for each in digits if each.probability > least)) / 2
    assert read("page.png", f"--threshold={between}").out.split("\n\n")[0].count("?") == 1
    assert "?" not in read("page.png", "--threshold=0").out


def test_a_picture_without_digits_is_told_by_word_and_status(read: Command) -> None:
    outcome = read("blank.png")
    assert (outcome.status, outcome.out, outcome.err) == (1, "no digits found\n", "")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("broken.png", "broken.png is not in a known format. Give a PNG,"),
        ("missing.png", "The picture missing.png does not exist. Give the path of an image file."),
    ],
)
def test_a_file_that_cannot_be_read_does_not_keep_others_from_it(
    read: Command, name: str, what: str
) -> None:
    outcome = read("seven.png", name, "blank.png", "page.png", "--threshold=0")
    assert outcome.status == 2
    [line] = outcome.err.splitlines()
    assert line.startswith(f"error: {what}")
    assert re.findall(r"^(.+):\n(.+)$", outcome.out, re.M) == [
        ("seven.png", "7"),
        ("blank.png", "no digits found"),
        ("page.png", "31"),
    ]


def test_a_pipe_is_not_waited_for_nor_a_device_read_to_its_end(read: Command) -> None:
    os.mkfifo("pipe.png")
    outcome = read("pipe.png", "/dev/zero", "seven.png", "--threshold=0")
    assert outcome.status == 2
    for name, line in zip(["pipe.png", "/dev/zero"], outcome.err.splitlines(), strict=True):
        what = f"error: {name} is a pipe or a device, not a picture."
        assert line == f"{what} Give the path of an image file."
    assert "\n7\n" in outcome.out
    assert "pipe.png" not in read(".").err


@pytest.mark.parametrize(
    "options",
    [["{long}.png"], ["seven.png", "--output={long}.png"], ["seven.png", "--output={long}/a.png"]],
)
def test_a_name_that_is_too_long_is_told(read: Command, options: list[str]) -> None:
    outcome = read(*(option.format(long="a" * 300) for option in options))
    assert (outcome.status, outcome.out) == (2, "")
    assert "File name too long." in outcome.err
    assert len(outcome.err.splitlines()) <= 2


# ---- JSON ----


def test_json_has_all_of_a_reading(read: Command, exported: Path) -> None:
    outcome = read("page.png", "--format=json")
    assert (outcome.status, outcome.err) == (0, "")
    [document] = json.loads(outcome.out)
    assert document.keys() == {"file", "text", "rotation", "lines"}
    assert (document["file"], document["text"]) == ("page.png", "31\n4159")
    expected = Reader(exported).read("page.png")
    assert [len(line) for line in document["lines"]] == [2, 4]
    found_digits = [found for line in document["lines"] for found in line]
    for found, each in zip(found_digits, expected.digits, strict=True):
        assert found == {
            "digit": each.digit,
            "probability": each.probability,
            "probabilities": each.probabilities.tolist(),
            "detection": each.detection,
            "box": list(each.box),
            "doubtful": each.doubtful,
        }


def test_json_of_several_pictures_is_one_document(read: Command) -> None:
    outcome = read("seven.png", "broken.png", "blank.png", "--format=json")
    assert outcome.status == 2
    seven, broken, blank = json.loads(outcome.out)
    assert seven["text"] == "7"
    assert broken == {"file": "broken.png", "error": outcome.err.removeprefix("error: ").strip()}
    assert blank == {"file": "blank.png", "text": "", "rotation": 0, "lines": []}


# ---- where pictures come from ----


def test_a_picture_may_come_from_standard_input(
    read: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("page.png").open("rb") as file:
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(file))
        outcome = read("-", "--threshold=0")
    assert outcome.status == 0
    assert outcome.out.splitlines()[:2] == ["31", "4159"]


def test_of_a_folder_its_pictures_are_read_in_order(read: Command) -> None:
    Path("digits").mkdir()
    for number, name in enumerate(["page", "seven"]):
        Path(f"{name}.png").rename(f"digits/{number}.png")
    Path("digits/notes.txt").write_text("no picture")
    Path("digits/.hidden.png").write_text("no picture")
    outcome = read("digits", "--threshold=0")
    assert (outcome.status, outcome.err) == (0, "digits: ignored 1 other files\n")
    read_first = re.findall(r"^(.+):\n(.+)$", outcome.out, re.M)
    assert read_first == [("digits/0.png", "31"), ("digits/1.png", "7")]


def test_pages_after_the_first_are_not_passed_over_in_silence(read: Command) -> None:
    pages = [Image.open(f"{name}.png") for name in ("seven", "page")]
    for name in ("pages.tiff", "frames.gif"):
        pages[0].save(name, save_all=True, append_images=pages[1:])
    outcome = read("pages.tiff", "seven.png", "frames.gif", "--threshold=0")
    assert outcome.status == 0
    assert re.findall(r":\n(.+)$", outcome.out, re.M) == ["7", "7", "7"]
    assert outcome.err == "Files with more pages or frames than the first: 2\n"


# ---- drawings ----


def test_a_drawing_shows_the_picture_and_is_named(read: Command) -> None:
    outcome = read("page.png", "--output=new/drawing.png")
    assert outcome.out.endswith("\nPicture: new/drawing.png\n")
    picture, drawing = open_picture("page.png"), open_picture("new/drawing.png")
    assert drawing.shape[0] > picture.shape[0] + 2 * 84  # two rows of glyphs below it
    assert shown(picture, drawing)
    assert [path.name for path in Path("new").iterdir()] == ["drawing.png"]


def test_each_of_several_pictures_is_drawn_into_the_folder(read: Command) -> None:
    outcome = read("page.png", "seven.png", "broken.png", "--output=drawn")
    assert outcome.status == 2
    names = ["page.png", "seven.png"]
    assert sorted(path.name for path in Path("drawn").iterdir()) == names
    assert re.findall(r"^Picture: drawn/(.+)$", outcome.out, re.M) == names
    for name in names:
        assert shown(open_picture(name), open_picture(f"drawn/{name}"))
    assert not shown(open_picture("page.png"), open_picture("drawn/seven.png"))


@pytest.mark.parametrize(
    ("options", "what", "what_to_do"),
    [
        (
            ["page.png", "seven.png", "--output=a.png"],
            "a.png is one file, but there are 2 pictures",
            "",
        ),
        (
            ["page.png", "--output=a.jpg"],
            "a.jpg is neither a .png file nor",
            "name that ends in .png.",
        ),
        (["page.png", "--output=a.new.folder"], "nor a folder", "dot in its name must exist"),
        (["page.png", "--output=page.png/a.png"], "page.png/a.png cannot be written", "choose"),
        ([""], "A picture has an empty name.", "a folder, or -."),
        (["page.png", "--output=page.png"], "--output would overwrite the picture page.png", ""),
        (["page.png", "--threshold=2"], "The threshold is 2.0.", "from 0 to 1"),
        (["page.png", "--threshold=much"], "invalid float value: 'much'", "read --help"),
        (["page.png", "--treshold=1"], "There is no option --treshold.", "mean --threshold?"),
        (["page.png", "--color"], "There is no option --color.", "read --help"),
        (["page.png", "--model=."], ". is a folder, not a model.", "export --ckpt_path best"),
        (
            ["page.png", "--model=no.onnx"],
            "The model no.onnx does not exist.",
            "export --ckpt_path best",
        ),
        (["page.png", "--model=page.png"], "page.png cannot be used as a model", "export"),
        ([], "required: PICTURE.", "read --help"),
    ],
)
def test_mistakes_are_told_in_two_lines_and_nothing_is_read(
    read: Command, options: list[str], what: str, what_to_do: str
) -> None:
    before = Path("page.png").read_bytes()
    outcome = read(*options)
    assert (outcome.status, outcome.out) == (2, "")
    first, second = outcome.err.splitlines()
    assert what in first
    assert what_to_do in second
    assert Path("page.png").read_bytes() == before


def test_a_folder_without_pictures_is_an_error(read: Command) -> None:
    Path("empty").mkdir()
    outcome = read("empty")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("error: There are no pictures in the folder empty.\n")


def test_a_drawing_that_cannot_be_written_does_not_take_the_reading_with_it(
    read: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(picture: paper.Picture, reading: Reading) -> Image.Image:
        drawing = draw(picture, reading)
        if len(reading.digits) == 1:
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            monkeypatch.setattr(drawing, "save", Mock(side_effect=full))
        return drawing

    monkeypatch.setattr("mnist_lit.reading.command.draw", full_disk)
    outcome = read("seven.png", "page.png", "--output=drawn", "--threshold=0")
    assert outcome.status == 2
    assert re.findall(r"^(.+):\n(.+)$", outcome.out, re.M) == [
        ("seven.png", "7"),
        ("page.png", "31"),
    ]
    [line] = outcome.err.splitlines()
    assert line.startswith("error: drawn/seven.png cannot be written: No space left on device.")
    assert [path.name for path in Path("drawn").iterdir()] == ["page.png"]
    [seven] = json.loads(read("seven.png", "--output=drawn", "--format=json").out)
    assert (seven["text"], seven["error"]) == ("7", line.removeprefix("error: "))


def test_drawings_replace_no_file_in_a_folder(read: Command) -> None:
    Path("drawn").mkdir()
    Path("drawn/page.png").write_text("mine")
    outcome = read("page.png", "--output=drawn")
    assert "Picture: drawn/page_1.png\n" in outcome.out
    assert Path("drawn/page.png").read_text() == "mine"


def test_a_file_that_appears_while_pictures_are_read_is_not_replaced(
    read: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(picture: paper.Picture, reading: Reading) -> Image.Image:
        Path("drawn/seven.png").write_text("mine")
        return draw(picture, reading)

    monkeypatch.setattr("mnist_lit.reading.command.draw", meanwhile)
    assert "Picture: drawn/seven_1.png\n" in read("seven.png", "--output=drawn").out
    assert Path("drawn/seven.png").read_text() == "mine"


def test_two_pictures_of_one_name_get_two_drawings(read: Command) -> None:
    Path("other").mkdir()
    shutil.copy("page.png", "other")
    out = read("page.png", "other/page.png", "--output=drawn").out
    assert re.findall("Picture: (.+)", out) == ["drawn/page.png", "drawn/page_1.png"]


def test_endless_standard_input_is_refused(read: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnist_lit.reading.image_files.MAX_STREAM", 1000)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(bytes(2000))))
    outcome = read("-")
    assert outcome.status == 2
    assert outcome.err.startswith("error: The picture has more than 0.001 MB.")


def test_empty_standard_input_is_an_error(read: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    outcome = read("-", "seven.png", "--threshold=0")
    assert (outcome.status, outcome.out.splitlines()[1]) == (2, "7")
    assert outcome.err.startswith("error: The picture is empty. Give a PNG")


def test_a_picture_whose_name_is_too_long_does_not_take_the_others_with_it(read: Command) -> None:
    outcome = read("x" * 300, "seven.png", "--threshold=0")
    assert (outcome.status, outcome.out.splitlines()[1]) == (2, "7")
    [line] = outcome.err.splitlines()
    assert "cannot be read: File name too long." in line


# ---- the real program ----


def test_closed_standard_input_is_an_error(read: Command, exported: Path) -> None:
    command = f'"{sys.executable}" -m mnist_lit read - --model="{exported}" <&-'
    process = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert process.returncode == 2
    assert process.stderr == (
        "error: The picture is empty. Give a PNG, JPEG, WebP, GIF, BMP or TIFF.\n"
    )


def test_the_program_reads_without_torch(read: Command, exported: Path) -> None:
    code = (
        "import sys; from mnist_lit.__main__ import main;"
        f"status = main(['read', 'seven.png', '--model={exported}', '--output=drawing.png']);"
        "assert not {'torch', 'lightning', 'matplotlib', 'scipy'} & sys.modules.keys();"
        "sys.exit(status)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("7\n")


def test_a_listener_who_has_heard_enough_is_no_error(read: Command, exported: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mnist_lit", "read", "seven.png", f"--model={exported}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.wait() == 0
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
@pytest.mark.parametrize("option", ["--format=text", "--format=json"])
def test_a_full_disk_behind_the_output_is_told_in_two_lines(
    read: Command, exported: Path, option: str
) -> None:
    command = [sys.executable, "-m", "mnist_lit", "read", "seven.png", f"--model={exported}"]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run([*command, option], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    first, second = process.stderr.splitlines()
    assert first == "error: The output cannot be written: No space left on device."
    assert second.startswith("Free some space")
