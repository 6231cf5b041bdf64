"""How soon a picture is read, and how fast: beside importing torch, and beside PyTorch itself.

- Cold, seconds: whole processes, in turn, after one round that is not counted:
  ``python -m mnist_lit read`` with a picture of four digits, a megapixel large, until it has
  ended, and ``python -c "import torch"``, which reading with PyTorch would begin with. The bar is
  for the ratio of the medians.
- Warm, milliseconds: ``Reader.read`` in a process that has read before; MNIST's own 28x28, and the
  megapixel with four digits or one, as arrays; and a photo of 12 megapixels with four digits, a
  JPEG file, whose decoding counts.
- Throughput, images per second: ``Reader.classify`` and the network of the same checkpoint in
  PyTorch, eager, in ``inference_mode``, with one thread as Reader has one, each in turn. Both go
  from NumPy arrays to logits and calibrated probabilities, some images a call. It needs
  ``--ckpt_path``, the checkpoint that the model was exported from.

What this does not show: a GPU, several threads, the first start after a boot, or how well digits
are read (handwriting.py does that).
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.datasets import MNIST

from benchmarks.common import SPREAD, footer, ratio_row, spread, table
from mnist_lit.assets import unpack
from mnist_lit.files import sha256
from mnist_lit.reading.models import PACKAGED
from mnist_lit.reading.reader import Reader
from mnist_lit.training.evaluation import load_trained_model

Images = NDArray[np.float32]
Answer = Callable[[Images], tuple[Images, Images]]

BAR = 0.35  # of the time that importing torch takes
BATCHES = (1, 64)
SIDE = 1000  # pixels of the page
PHOTO = (4000, 3000)  # pixels: width and height of a phone's photo
LEAST = 0.3  # seconds that a measurement of warm calls takes


def page(digits: np.ndarray) -> np.ndarray:
    """White paper with MNIST's ``uint8 (n, 28, 28)`` on it, seven times enlarged."""
    paper = np.full((SIDE, SIDE), 245, np.uint8)
    row = Image.fromarray(255 - np.hstack([*digits]))
    row = row.resize((7 * row.width, 7 * row.height), Image.Resampling.BICUBIC)
    left, top = (SIDE - row.width) // 2, (SIDE - row.height) // 2
    part = paper[top : top + row.height, left : left + row.width]
    np.minimum(part, np.asarray(row), out=part)
    return np.dstack([paper] * 3)


def cold(picture: Path, model: Path, repeats: int) -> dict[str, list[float]]:
    """Seconds of the processes, by name."""
    commands = {
        "read": ["-m", "mnist_lit", "read", str(picture), "--model", str(model)],
        "import torch": ["-c", "import torch"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats + 1):
        for name, args in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *args], check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def in_turn(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Mean seconds of a call, by name: of as many as take ``LEAST`` seconds, in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):  # the first is not counted
        for name, call in calls.items():
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < LEAST:
                call()
                count += 1
            seconds[name].append((time.perf_counter() - start) / count)
    return {name: values[1:] for name, values in seconds.items()}


def eager_answer(ckpt_path: str, reader: Reader) -> Answer:
    """What ``Reader.classify`` does, by PyTorch."""
    trained = load_trained_model(ckpt_path)
    if sha256(trained.path) != reader.metadata["checkpoint_sha256"]:
        sys.exit(f"The model was exported from another checkpoint than {trained.path}.")
    temperature = float(reader.metadata["temperature"])

    @torch.inference_mode()
    def answer(images: Images) -> tuple[Images, Images]:
        logits = trained.model(torch.from_numpy(images[:, None]))
        return logits.numpy(), (logits / temperature).softmax(dim=1).numpy()

    return answer


def throughput(reader: Answer, eager: Answer, images: Images, repeats: int) -> str:
    """The tables of images per second and of their ratios."""
    rows, ratios = [], []
    for batch in BATCHES:
        part = images[:batch]
        np.testing.assert_allclose(reader(part)[1], eager(part)[1], atol=1e-4)
        calls = {"Reader": partial(reader, part), "PyTorch": partial(eager, part)}
        rates = {
            name: [batch / value for value in seconds]
            for name, seconds in in_turn(calls, repeats).items()
        }
        rows += [[f"{name}, {batch} a call", *spread(each, 0)] for name, each in rates.items()]
        name = f"Reader / PyTorch, {batch} a call"
        ratios.append(ratio_row(name, rates["Reader"], rates["PyTorch"], None)[:-1])
    return f"{table([['', *SPREAD], *rows])}\n\n{table([['ratio', *SPREAD], *ratios])}"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=PACKAGED, help="default: the package's own")
    parser.add_argument("--ckpt_path", metavar="FILE|best|last", help="what it was exported from")
    parser.add_argument("--repeats", type=int, default=10, help="rounds (default: 10)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    reader = Reader(options.model)
    eager = eager_answer(options.ckpt_path, reader) if options.ckpt_path else None
    with TemporaryDirectory() as name:
        unpack(Path(name))
        images = MNIST(name, train=False).data.numpy()
        pictures = {
            "28x28": images[0],
            "a megapixel, one digit": page(images[:1]),
            "a megapixel, four digits": page(images[:4]),
        }
        photo = Path(name) / "photo.jpg"
        four = Image.fromarray(pictures["a megapixel, four digits"])
        four.resize(PHOTO, Image.Resampling.BICUBIC).save(photo, quality=90)
        file = Path(name) / "page.png"
        four.save(file)
        started = cold(file, options.model, options.repeats)
        calls = {name: partial(reader.read, picture) for name, picture in pictures.items()}
        calls["12 megapixels, JPEG"] = partial(reader.read, photo)
        warm = in_turn(calls, options.repeats)

    print(f"Cold, seconds over {options.repeats} rounds\n")
    print(table([["", *SPREAD], *([name, *spread(each)] for name, each in started.items())]))
    read, torch_alone = (statistics.median(each) for each in started.values())
    print(f"\nread / import torch: {read / torch_alone:.2f}, bar {BAR:.2f}")
    print(f"\nWarm, milliseconds over {options.repeats} rounds\n")
    rows = [[name, *spread([1000 * value for value in each])] for name, each in warm.items()]
    print(table([["", *SPREAD], *rows]))
    if eager:
        scaled = images[: max(BATCHES)].astype(np.float32) / 255
        print(f"\nThroughput, images per second over {options.repeats} rounds\n")
        print(throughput(reader.classify, eager, scaled, options.repeats))
    print(footer())


if __name__ == "__main__":
    main()
