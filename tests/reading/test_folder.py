import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_lit.reading.reader import Reader
from tests.conftest import Command
from tests.support.pages import page

TEXTS = {"a.png": "31\n4159", "b.png": "7", "c.jpg": "26"}


@pytest.fixture
def folder(run: Path, exported: Path, tmp_path: Path) -> Path:
    path = tmp_path / "photos"
    path.mkdir()
    for name, text in TEXTS.items():
        Image.fromarray(page(exported, *text.split())).save(path / name)
    return path


def rows(run: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    with (run / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_digits_in_a_folder_are_predicted_as_reader_reads_them(
    mnist_lit: Command, run: Path, folder: Path, exported: Path
) -> None:
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture, nor taken for one")
    Image.fromarray(np.full((200, 300, 3), 250, np.uint8)).save(folder / "blank.png")
    outcome = mnist_lit("predict", "--ckpt_path=best", "--data.predict_dir=photos")
    assert outcome.status == 2
    others, line = outcome.err.splitlines()
    assert others == "photos: ignored 1 other files"
    assert line.startswith("Skipped: photos/broken.png is not in a known format.")
    path = Path("lightning_logs/version_0/predictions.csv")
    assert f"Predictions: {path} (9 digits, 3 images)\n" in outcome.out

    found = rows(run)
    assert list(found[0]) == [
        *("file", "line", "left", "top", "right", "bottom", "prediction", "probability")
    ]
    temperature = float(Reader(exported).metadata["temperature"])
    expected = [
        (name, number, each)
        for name in TEXTS
        for number, digits in enumerate(Reader(exported).read(folder / name).lines, start=1)
        for each in digits
    ]
    assert "".join(row["prediction"] for row in found) == "314159726"
    for row, (name, number, each) in zip(found, expected, strict=True):
        assert (row["file"], int(row["line"])) == (name, number)
        assert tuple(int(row[edge]) for edge in ("left", "top", "right", "bottom")) == each.box
        assert int(row["prediction"]) == each.digit
        # A checkpoint has no temperature: its probabilities are powers of the reader's.
        powers = each.probabilities.astype(float) ** temperature
        assert float(row["probability"]) == pytest.approx(powers.max() / powers.sum(), abs=1e-4)


def test_earlier_predictions_stay(mnist_lit: Command, run: Path, folder: Path) -> None:
    for name in ("predictions.csv", "predictions_1.csv"):
        (run / name).write_text("earlier")
    outcome = mnist_lit("predict", "--ckpt_path=best", "--data.predict_dir=photos")
    assert (outcome.status, outcome.err) == (0, "")
    assert f"Predictions: {run.relative_to(Path.cwd())}/predictions_2.csv (" in outcome.out
    assert {(run / name).read_text() for name in ("predictions.csv", "predictions_1.csv")} == {
        "earlier"
    }
    assert "159726" in "".join(row["prediction"] for row in rows(run, "predictions_2.csv"))


@pytest.mark.parametrize("option", ["--data.eval_batch_size=1", "--data.eval_batch_size=4"])
def test_batches_change_nothing(mnist_lit: Command, run: Path, folder: Path, option: str) -> None:
    assert mnist_lit("predict", "--ckpt_path=best", "--data.predict_dir=photos", option).status == 0
    assert "".join(row["prediction"] for row in rows(run)) == "314159726"


@pytest.mark.parametrize(
    ("names", "what", "what_to_do"),
    [
        (None, "missing cannot be read: No such file or directory.", "Give a folder"),
        ([], "There are no pictures in the folder missing.", "subfolders are ignored"),
        (["blank.png"], "There are no digits in the pictures of missing.", "handwritten digits"),
    ],
)
def test_a_folder_without_digits_is_told_in_two_lines(
    mnist_lit: Command, run: Path, names: list[str] | None, what: str, what_to_do: str
) -> None:
    if names is not None:
        Path("missing").mkdir()
        for name in names:
            Image.new("RGB", (300, 200), "white").save(f"missing/{name}")
    outcome = mnist_lit("predict", "--ckpt_path=best", "--data.predict_dir=missing")
    assert outcome.status == 2
    first, second = outcome.err.splitlines()
    assert first == f"error: {what}"
    assert what_to_do in second
    assert not (run / "predictions.csv").exists()


def test_other_commands_refuse_a_folder_to_predict(
    mnist_lit: Command, run: Path, folder: Path
) -> None:
    outcome = mnist_lit("test", "--ckpt_path=best", "--data.predict_dir=photos")
    assert outcome.status == 2
    assert outcome.err == (
        "error: There is no option data.predict_dir.\nDid you mean data.data_dir?\n"
    )
