"""Accuracy on corrupted test images: fifteen corruptions after MNIST-C.

Mu and Gilmer, "MNIST-C: A robustness benchmark for computer vision", 2019. The corruptions are
written anew from their description, so that figures are near the published ones, not equal.
Several models are compared by giving their checkpoints.

What this does not show: how well handwriting on paper is read; before the classifier sees a glyph,
``reading/`` has evened out light, contrast and size.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.random import Generator

from benchmarks.common import footer, table
from mnist_lit.data import MNISTDataModule, scaled
from mnist_lit.module import DigitClassifier
from mnist_lit.own_digits.adaptation import PACKAGED

Image = np.ndarray[Any, Any]  # float32 (28, 28) in [0, 1], ink 1


def shot_noise(rng: Generator, image: Image) -> Image:
    """Noise of few photons."""
    return rng.poisson(image * 5) / 5


def impulse_noise(rng: Generator, image: Image) -> Image:
    """Salt and pepper on a fifth of the pixels."""
    chance = rng.random(image.shape)
    return np.where(chance < 0.1, 0, np.where(chance > 0.9, 1, image))


def glass_blur(rng: Generator, image: Image) -> Image:
    """Pixels swapped with their neighbors, between two blurs."""
    blurred = cv2.GaussianBlur(image, (0, 0), 0.7)
    for y in range(1, 27):
        for x in range(1, 27):
            down, across = rng.integers(-1, 2, 2)
            one, other = blurred[y, x], blurred[y + down, x + across]
            blurred[y, x], blurred[y + down, x + across] = other, one
    return cv2.GaussianBlur(blurred, (0, 0), 0.7)


def motion_blur(rng: Generator, image: Image) -> Image:
    """Blur along a random direction."""
    angle = np.deg2rad(rng.uniform(-45, 45))
    kernel = np.zeros((11, 11), np.float32)
    reach = 5 * np.array([np.cos(angle), np.sin(angle)])
    start, end = (tuple(np.round(5 + sign * reach).astype(int).tolist()) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def warped(image: Image, matrix: np.ndarray, shift: np.ndarray | None = None) -> Image:
    """Apply a linear map about the center."""
    center = np.array([13.5, 13.5])
    offset = center - matrix @ center + (0 if shift is None else shift)
    return cv2.warpAffine(image, np.hstack([matrix, offset[:, None]]), (28, 28))


def shear(rng: Generator, image: Image) -> Image:
    """A slant to either side."""
    return warped(image, np.array([[1, 0.4 * rng.choice([-1, 1])], [0, 1]]))


def scale(rng: Generator, image: Image) -> Image:
    """Three fifths of the size."""
    return warped(image, np.eye(2) * 0.6)


def rotate(rng: Generator, image: Image) -> Image:
    """Thirty degrees in either direction."""
    angle = np.deg2rad(30 * rng.choice([-1, 1]))
    return warped(
        image, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )


def translate(rng: Generator, image: Image) -> Image:
    """Four pixels in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    return warped(image, np.eye(2), 4 * np.array([np.cos(angle), np.sin(angle)]))


def brightness(rng: Generator, image: Image) -> Image:
    """Brighter all over."""
    return image + 0.6


def stripe(rng: Generator, image: Image) -> Image:
    """The left and right quarters inverted."""
    inverted = image.copy()
    inverted[:, :7] = 1 - image[:, :7]
    inverted[:, 21:] = 1 - image[:, 21:]
    return inverted


def fog(rng: Generator, image: Image) -> Image:
    """A plasma fractal in front."""
    haze = np.zeros((28, 28), np.float32)
    for size in (2, 3, 5, 9, 17):  # as a plasma fractal: half as strong at each doubling
        coarse = rng.random((size, size), dtype=np.float32) * 2 / size
        haze += cv2.resize(coarse, (28, 28), interpolation=cv2.INTER_CUBIC)
    haze = (haze - haze.min()) / (haze.max() - haze.min())
    foggy: Image = (image + 1.2 * haze) / 2.2 * 1.3
    return foggy


def spatter(rng: Generator, image: Image) -> Image:
    """Drops of a gray liquid."""
    drops = cv2.GaussianBlur(rng.normal(0.65, 0.3, (28, 28)).astype(np.float32), (0, 0), 1)
    mask = cv2.GaussianBlur((drops > 0.78).astype(np.float32), (0, 0), 0.6)
    return image * (1 - mask) + 0.6 * mask


def line_points(rng: Generator) -> np.ndarray:
    """Points of a line across the image, from the left edge to the right one."""
    y = rng.uniform(4, 24, 2)
    return np.linspace([0, y[0]], [27, y[1]], 15)


def dotted_line(rng: Generator, image: Image) -> Image:
    """A dotted line across."""
    drawn = image.copy()
    for x, y in line_points(rng):
        cv2.circle(drawn, (round(x), round(y)), 0, 1.0, -1)
    return drawn


def zigzag(rng: Generator, image: Image) -> Image:
    """A zigzag across."""
    drawn, points = image.copy(), line_points(rng)
    points[:, 1] += 2.5 * (np.arange(len(points)) % 2 * 2 - 1)
    cv2.polylines(drawn, [np.round(points * 8).astype(np.int32)], False, 1.0, 1, cv2.LINE_AA, 3)
    return drawn


def canny_edges(rng: Generator, image: Image) -> Image:
    """Only the edges (Canny, 1986)."""
    return cv2.Canny((255 * image).astype(np.uint8), 50, 150) / 255


CORRUPTIONS: tuple[Callable[[Generator, Image], Image], ...] = (
    *(shot_noise, impulse_noise, glass_blur, motion_blur, shear, scale, rotate, brightness),
    *(translate, stripe, fog, spatter, dotted_line, zigzag, canny_edges),
)


def main() -> None:
    """Corrupt the test images, classify them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="*", type=Path, default=[PACKAGED])
    parser.add_argument("--data", default="data", help="directory of MNIST")
    parser.add_argument("--count", type=int, default=10_000, help="test images")
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
