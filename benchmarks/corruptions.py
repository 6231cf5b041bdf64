"""Accuracy on corrupted test images: fifteen corruptions after MNIST-C.

Mu and Gilmer, "MNIST-C: A robustness benchmark for computer vision", 2019. The corruptions are
written anew, with the strengths of the published ones, so that figures are near the published
ones, not equal. Several models are compared by giving their checkpoints.

What this does not show: how well handwriting on paper is read; before the classifier sees a glyph,
``reading/`` has evened out light, contrast and size.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jsonargparse.typing import PositiveInt
from numpy.random import Generator

from benchmarks.common import footer, table
from mnist_lit.data import MNISTDataModule, scaled
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.adaptation import PACKAGED

Image = np.ndarray[Any, Any]  # float32 (28, 28) in [0, 1], ink 1


def shot_noise(rng: Generator, image: Image) -> Image:
    """Noise of few photons."""
    return rng.poisson(image * 3) / 3


def impulse_noise(rng: Generator, image: Image) -> Image:
    """Salt and pepper on 17 % of the pixels."""
    chance = rng.random(image.shape)
    return np.where(chance < 0.085, 0, np.where(chance > 0.915, 1, image))


def glass_blur(rng: Generator, image: Image) -> Image:
    """Half of the pixels swapped with a neighbor, twice, between two blurs."""
    blurred = cv2.GaussianBlur(image, (0, 0), 0.7)
    for y, x in 2 * list(np.ndindex(26, 26)):
        if rng.random() < 0.5:
            here, there = (y + 1, x + 1), (y + rng.integers(2), x + rng.integers(2))
            blurred[here], blurred[there] = blurred[there], blurred[here]
    return cv2.GaussianBlur(blurred, (0, 0), 0.7)


def motion_blur(rng: Generator, image: Image) -> Image:
    """A trail in one direction, which fades with a standard deviation of three pixels."""
    angle = np.deg2rad(rng.uniform(-45, 45))
    steps = np.arange(10)
    weights = np.exp(-(steps**2) / 18)
    shifts = np.stack([steps * np.cos(angle), steps * np.sin(angle)], 1)
    trail = [warped(image, np.eye(2), shift) for shift in shifts]
    blurred: Image = np.average(trail, axis=0, weights=weights)
    return blurred


def warped(image: Image, matrix: np.ndarray, shift: np.ndarray | None = None) -> Image:
    """Apply a linear map about the center."""
    center = np.array([13.5, 13.5])
    offset = center - matrix @ center + (0 if shift is None else shift)
    return cv2.warpAffine(image, np.hstack([matrix, offset[:, None]]), (28, 28))


def shear(rng: Generator, image: Image) -> Image:
    """A slant to either side."""
    return warped(image, np.array([[1, 0.4 * rng.choice([-1, 1])], [0, 1]]))


def scale(rng: Generator, image: Image) -> Image:
    """Seven tenths of the size."""
    return warped(image, np.eye(2) * 0.7)


def rotate(rng: Generator, image: Image) -> Image:
    """0.4 radians in either direction."""
    angle = 0.4 * rng.choice([-1, 1])
    return warped(
        image, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )


def translate(rng: Generator, image: Image) -> Image:
    """Three pixels along both axes."""
    return warped(image, np.eye(2), 3.0 * rng.choice([-1, 1], 2))


def brightness(rng: Generator, image: Image) -> Image:
    """Brighter all over."""
    return image + 0.5


def stripe(rng: Generator, image: Image) -> Image:
    """The left and right quarters inverted."""
    inverted = image.copy()
    inverted[:, :7] = 1 - image[:, :7]
    inverted[:, 21:] = 1 - image[:, 21:]
    return inverted


def fog(rng: Generator, image: Image) -> Image:
    """Three times as much of a plasma fractal in front, of which one corner is seen."""
    haze = np.zeros((256, 256), np.float32)
    for octave in range(1, 9):  # half as strong at each doubling
        coarse = rng.uniform(-1, 1, (2**octave, 2**octave)) / 1.4 ** (2 * octave)
        haze += cv2.resize(coarse, (256, 256), interpolation=cv2.INTER_LINEAR)
    haze = (haze - haze.min()) / (haze.max() - haze.min())
    foggy: Image = (image + 3 * haze[:28, :28]) / 4
    return foggy


def spatter(rng: Generator, image: Image) -> Image:
    """Drops of a dark liquid."""
    liquid = cv2.GaussianBlur(rng.normal(0.65, 0.3, (28, 28)), (0, 0), 1)
    mask = cv2.GaussianBlur((liquid > 0.65).astype(np.float64), (0, 0), 1.5)
    mask[mask < 0.8] = 0
    return image * (1 - mask) + mask / 4


def line(image: Image, start: np.ndarray, end: np.ndarray) -> Image:
    """Add a line between two points (x, y), whose sides fade over 2.3 pixels."""
    x, y = np.meshgrid(np.arange(28), np.arange(28))
    slope = (end[1] - start[1]) / (end[0] - start[0])
    away = np.abs(y - start[1] - slope * (x - start[0])).clip(0, 2.29)
    within = (x >= np.floor(start[0])) & (x < np.ceil(end[0]))
    drawn: Image = (image + within * (1 + np.log(1 - away / 2.3)).clip(0, 1)).clip(0, 1)
    return drawn


def dotted_line(rng: Generator, image: Image) -> Image:
    """A line across, with gaps of two columns."""
    start, end = rng.integers(27, size=2)
    solid = line(image, np.array([0, start]), np.array([27, end]))
    return np.where(np.arange(28) % 4 < 2, image, solid)


def zigzag(rng: Generator, image: Image) -> Image:
    """A zigzag across, two pixels to either side."""
    start = np.array([2, rng.integers(27)])
    end = np.array([25, start[1] + rng.integers(-5, 5)])
    corners = start + np.arange(2, 24, 4)[:, None] / 23 * (end - start)
    corners[:, 1] += 2 * (-1) ** np.arange(len(corners))
    for one, other in pairwise([start, *corners, end]):
        image = line(image, one, other)
    return image


def canny_edges(rng: Generator, image: Image) -> Image:
    """Only the edges (Canny, 1986)."""
    smooth = cv2.GaussianBlur(255 * image, (0, 0), 1).round().astype(np.uint8)
    return cv2.Canny(smooth, 102, 204, L2gradient=True) / 255


CORRUPTIONS: tuple[Callable[[Generator, Image], Image], ...] = (
    *(shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness),
    *(translate, stripe, fog, spatter, dotted_line, zigzag, canny_edges),
)


def main() -> None:
    """Corrupt the test images, classify them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[PACKAGED])
    parser.add_argument("--data", default="data", help="directory of MNIST")
    parser.add_argument("--count", type=PositiveInt, default=10_000, help="test images")
    parser.add_argument("--show", type=Path, help="PNG file in which to show some of them")
    options = parser.parse_args()
    data = MNISTDataModule(options.data)
    data.prepare_data()
    data.setup("test")
    images = scaled(data.test_set.images[: options.count]).squeeze(1).numpy()
    labels = data.test_set.labels[: options.count]
    models = [
        DigitClassifier.load_from_checkpoint(
            path, augmentation=None, optimizer=torch.optim.Adam, scheduler=None
        ).eval()
        for path in options.checkpoints
    ]
    rows, shares, shown = [["", *map(str, options.checkpoints)]], [], []
    for number, corrupt in enumerate((lambda _, image: image, *CORRUPTIONS)):
        rng = np.random.default_rng(number)
        corrupted = np.stack([corrupt(rng, image) for image in images]).clip(0, 1)
        shown.append(np.hstack(list(corrupted[:16])))
        batch = torch.from_numpy(corrupted.astype(np.float32))[:, None]
        shares.append([_accuracy(model, batch, labels) for model in models])
        name = corrupt.__name__.replace("_", " ") if number else "none"
        rows.append([name, *(f"{share:.2%}" for share in shares[-1])])
    mean = np.mean(shares[1:], axis=0)
    rows.append(["mean of the fifteen", *(f"{share:.2%}" for share in mean)])
    if options.show:
        cv2.imwrite(str(options.show), (255 * np.vstack(shown)).astype(np.uint8))
    print(table(rows))
    print(footer())


@torch.inference_mode()
def _accuracy(model: DigitClassifier, images: torch.Tensor, labels: torch.Tensor) -> float:
    logits = torch.cat([model(part) for part in torch.split(images, 500)])
    return float(logits.argmax(1).eq(labels).double().mean())


if __name__ == "__main__":
    main()
