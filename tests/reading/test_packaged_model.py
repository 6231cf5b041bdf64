"""What the packaged model reads: MNIST's test digits on synthetic paper, and what is no digit."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mnist_lit import Reader
from mnist_lit.errors import InputError
from tests.support import paper
from tests.support.drawings import KINDS, drawing
from tests.support.hostile import damaged, encoded


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader()


def surely_read(reader: Reader, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first test images that the model itself reads right."""
    images, labels = (part[: count * 2] for part in paper.mnist())
    right = reader.classify((images / 255).astype(np.float32))[0].argmax(1) == labels
    return images[right][:count], labels[right][:count]


def colors(rng: np.random.Generator) -> dict[str, paper.Color]:
    while True:
        ink, sheet = rng.uniform(0, 1, (2, 3))
        if np.abs(ink - sheet).max() > 0.4:
            return {"color": tuple(ink), "paper": tuple(sheet)}


def digit_on_paper(
    image: NDArray[np.uint8], rng: np.random.Generator, largest: float
) -> paper.Picture:
    """One digit of any size, color, place and light, on plain or ruled paper."""
    size = float(np.exp(rng.uniform(np.log(20), np.log(largest))))
    ink = paper.digit(image, size)
    top, bottom, left, right = (int(size * share) for share in rng.uniform(0.25, 2, 4))
    height, width = ink.shape[0] + top + bottom, ink.shape[1] + left + right
    ink = paper.put(ink, height, width, left, top)
    scene = paper.sheet(ink, **colors(rng))
    if rng.random() < 0.3:
        light = paper.gradient(height, width, rng.uniform(0.5, 0.9), rng.uniform(0, 6))
        scene = scene * light[..., np.newaxis]
    quality = int(rng.integers(40, 95)) if rng.random() < 0.5 else None
    return paper.develop(scene, rng, noise=rng.choice([0, 0.02]), quality=quality)


def text(reader: Reader, picture: paper.Picture) -> str:
    return reader.read(picture).text


def share_read(reader: Reader, count: int, largest: float) -> float:
    images, labels = surely_read(reader, count)
    rng = np.random.default_rng(0)
    right = [
        text(reader, digit_on_paper(image, rng, largest)) == str(label)
        for image, label in zip(images, labels, strict=True)
    ]
    return float(np.mean(right))


def test_a_digit_on_any_paper_is_read(reader: Reader) -> None:
    assert share_read(reader, 100, largest=150) >= 0.96


@pytest.mark.slow
def test_of_many_digits_on_any_paper_nearly_all_are_read(reader: Reader) -> None:
    assert share_read(reader, 250, largest=1000) >= 0.98


def changed(picture: paper.Picture) -> Iterator[Any]:
    """The same picture inverted, shifted, padded, and larger."""
    yield 255 - picture
    yield np.roll(picture, (3, -4), (0, 1))
    yield np.pad(picture, ((40, 5), (10, 90), (0, 0)), mode="edge")
    yield cv2.resize(picture, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC)


def unchanged_share(reader: Reader, count: int) -> float:
    images, _ = surely_read(reader, count)
    same = []
    for image in images:
        ink = paper.digit(image, 60)
        ink = paper.put(ink, ink.shape[0] + 50, ink.shape[1] + 60, 30, 25)
        picture = paper.develop(paper.sheet(ink), np.random.default_rng(0))
        answer = text(reader, picture)
        same += [text(reader, other) == answer for other in changed(picture)]
    return float(np.mean(same))


def test_inversion_shift_padding_and_scale_change_no_answer(reader: Reader) -> None:
    assert unchanged_share(reader, 60) >= 0.98


@pytest.mark.slow
def test_of_many_answers_98_percent_do_not_change(reader: Reader) -> None:
    assert unchanged_share(reader, 300) >= 0.98


def complete_share(reader: Reader, count: int) -> float:
    """Rows of 1 to 12 digits, slanted a little: how many are found complete."""
    images, _ = surely_read(reader, 4000)
    rng = np.random.default_rng(0)
    complete = []
    for number in range(count):
        chosen = rng.choice(len(images), 1 + number % 12)
        size = rng.uniform(25, 90)
        digits = [paper.digit(images[i], size * rng.uniform(0.9, 1.1)) for i in chosen]
        jitter = rng.normal(0, 0.06 * size, len(digits))
        ink = paper.row(digits, size * rng.uniform(0.15, 0.6), rng.uniform(-0.05, 0.05), jitter)
        margin = int(size * rng.uniform(0.4, 1.5))
        ink = paper.put(ink, ink.shape[0] + 2 * margin, ink.shape[1] + 2 * margin, margin, margin)
        picture = paper.develop(paper.sheet(ink, **colors(rng)), rng, noise=0.01)
        found = reader.read(picture)
        complete.append([len(line) for line in found.lines] == [len(chosen)])
    return float(np.mean(complete))


def test_rows_are_found_complete_and_in_order(reader: Reader) -> None:
    assert complete_share(reader, 36) >= 0.9


@pytest.mark.slow
def test_of_many_rows_98_percent_are_found_complete(reader: Reader) -> None:
    assert complete_share(reader, 1000) >= 0.98


# What is no digit


def test_what_is_no_digit_is_doubtful(reader: Reader) -> None:
    rng = np.random.default_rng(0)
    pictures = [drawing(kind, rng) for kind in KINDS for _ in range(10)]
    sure = [any(not each.doubtful for each in reader.read(one).digits) for one in pictures]
    assert np.mean(sure) <= 0.05


def test_blank_paper_and_noise_have_no_digit(reader: Reader) -> None:
    rng = np.random.default_rng(0)
    for picture in (
        np.full((300, 400), 250, np.uint8),
        rng.integers(0, 256, (300, 400)).astype(np.uint8),
        rng.normal(220, 6, (300, 400)).clip(0, 255).astype(np.uint8),
        (200 + 40 * paper.gradient(300, 400, 0.5, 1)).astype(np.uint8),
    ):
        assert reader.read(picture).lines == []


def test_98_percent_of_the_test_digits_are_not_doubtful(reader: Reader) -> None:
    images, _ = paper.mnist()
    _, probabilities = reader.classify((images / 255).astype(np.float32))
    assert (probabilities.max(1) >= reader.threshold).mean() >= 0.98


def test_reading_mnists_images_as_pictures_loses_next_to_nothing(reader: Reader) -> None:
    images, labels = (part[:2000] for part in paper.mnist())
    direct = reader.classify((images / 255).astype(np.float32))[0].argmax(1) == labels
    read = [text(reader, image) == str(label) for image, label in zip(images, labels, strict=True)]
    assert direct.mean() - np.mean(read) <= 0.0015


# Hostile files


def refusal(reader: Reader, content: bytes) -> list[str]:
    """The lines of an error, if reading ends in one."""
    try:
        reader.read(content)
    except InputError as error:
        return str(error).splitlines()
    return []


def refusals(reader: Reader, count: int) -> list[list[str]]:
    rng = np.random.default_rng(0)
    sources = list(encoded(rng))
    return [refusal(reader, damaged(sources[i % len(sources)], rng)) for i in range(count)]


def test_damaged_files_are_read_or_refused(reader: Reader) -> None:
    lengths = {len(lines) for lines in refusals(reader, 200)}
    assert lengths == {0, 2}


@pytest.mark.slow
def test_a_thousand_damaged_files_are_read_or_refused(reader: Reader) -> None:
    lengths = {len(lines) for lines in refusals(reader, 1000)}
    assert lengths == {0, 2}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak of memory")
def test_large_and_deep_pictures_are_read_soon_and_in_less_than_a_gigabyte(tmp_path: Path) -> None:
    Image.new("RGBA", (8000, 5000), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    Image.new("1", (6300, 6300), 1).save(tmp_path / "bits.png")
    Image.effect_noise((5000, 8000), 90).save(tmp_path / "noise.jpg")
    frames = [Image.new("L", (500, 500), gray % 256) for gray in range(2000)]
    frames[0].save(tmp_path / "deep.gif", save_all=True, append_images=frames[1:])
    Image.new("RGB", (300, 200), "white").save(tmp_path / "wrong.tiff", "WEBP")
    place = np.arange(1400)
    stripes = np.broadcast_to(place // 7 % 2 * 255, (1400, 1400)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    dashes = np.where((place % 35 < 25)[:, np.newaxis] & (place % 35 < 4), 0, 255).astype(np.uint8)
    Image.fromarray(dashes).save(tmp_path / "dashes.png")
    script = (
        "import re, sys\n"
        "from mnist_lit import Reader\n"
        "reader = Reader()\n"
        "for path in sys.argv[1:]:\n"
        "    reader.read(path)\n"
        "peak = int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        "assert peak < 1_000_000, peak\n"
    )
    files = sorted(map(str, tmp_path.iterdir()))
    command = [sys.executable, "-c", script, *files]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_photo_of_the_readme_is_read() -> None:
    assert Reader().read(Path(__file__).parents[2] / "docs" / "photo.jpg").text == "20251\n7403986"
