"""The command pages: draw a contact sheet of synthetic pages."""

from pathlib import Path

import cv2
import numpy as np
from jsonargparse.typing import NonNegativeInt, PositiveInt
from PIL import Image

from mnist_lit.augment.pen import Pen
from mnist_lit.data import MNISTDataModule
from mnist_lit.detection.data import TRAINING, digit_images
from mnist_lit.detection.pages.page import draw_page
from mnist_lit.detection.pictures import VERMILION, contact_sheet, with_boxes
from mnist_lit.files import atomic_write
from mnist_lit.options import CommandParser


def main(args: list[str]) -> None:
    """Run ``pages``."""
    parser = CommandParser("pages", "Draw some of the pages that the detector trains on.")
    parser.prog = "python -m mnist_lit.detection pages"
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FILE", help="PNG file to write.")
    add("--count", type=PositiveInt, default=24, metavar="N", help="Number of pages.")
    add("--columns", type=PositiveInt, default=6, metavar="N", help="Number of pages in a row.")
    add("--width", type=PositiveInt, default=256, metavar="PIXELS", help="Width of a page.")
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help="Seed of the pages.")
    add("--boxes", action="store_true", help="Draw the digits' boxes.")
    data_help = "Directory of the unpacked MNIST."
    add("--data.data_dir", dest="data_dir", default="data", metavar="DIR", help=data_help)
    options = parser.parse_args(args[1:])
    mnist = MNISTDataModule(data_dir=options.data_dir)
    mnist.prepare_data()
    mnist.setup("fit")
    digits, drawn = digit_images(mnist.train_set, Pen()), []
    for index in range(options.count):
        page = draw_page(np.random.default_rng([TRAINING, options.seed, 0, index]), digits)
        picture = with_boxes(page.image, page.boxes if options.boxes else page.boxes[:0], VERMILION)
        size = (options.width, options.width)
        drawn.append(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    mode = "RGB" if options.boxes else "L"
    sheet = Image.fromarray(contact_sheet(drawn, options.columns)).convert(mode)
    with atomic_write(options.output) as partial:
        sheet.save(partial, format="PNG", optimize=True)
    print(f"Saved: {options.output}")
