"""The command forms: draw a contact sheet of the forms of the digits."""

from pathlib import Path

import torch
from jsonargparse.typing import NonNegativeInt
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from mnist_lit.augment.forms import FORMS
from mnist_lit.augment.pen import Pen, draw
from mnist_lit.files import atomic_write
from mnist_lit.options import CommandParser

# The form as in the table, half way along its range.
PLAIN = Pen(
    slant=(0, 0),
    rotation=(0, 0),
    breadth=(1, 1),
    bend=0,
    jitter=0,
    rounding=(0, 0),
    width=(2, 2),
    pressure=(0, 0),
    nib=(0, 0),
    edge=(0.4, 0.4),
)
COLUMNS = 4
LARGE, SMALL, EXAMPLES = 84, 56, 4  # pixels; a small image is one of training, enlarged
NAME = 16  # pixels: height of the line with the name
CELL = LARGE + EXAMPLES * SMALL + 20, LARGE + NAME


def main(args: list[str]) -> None:
    """Run ``forms``."""
    parser = CommandParser("forms", "Draw the forms of the digits that Handwriting draws.")
    parser.prog = "python -m mnist_lit.augment forms"
    add = parser.add_argument
    add("--output", required=True, type=Path, metavar="FILE", help="PNG file to write.")
    add("--seed", type=NonNegativeInt, default=0, metavar="N", help="Seed of the examples.")
    options = parser.parse_args(args[1:])
    generator = torch.Generator().manual_seed(options.seed % 2**63)  # torch takes 64 bits
    sheet = contact_sheet(generator)
    with atomic_write(options.output) as partial:
        sheet.save(partial, format="PNG", optimize=True)
    print(f"Saved: {options.output}")


def contact_sheet(generator: Generator) -> Image.Image:
    """Draw each form large, with examples as in training; forms run down the columns."""
    forms = torch.arange(len(FORMS))
    large = draw(forms, PLAIN, generator, LARGE)
    small = draw(forms.repeat_interleave(EXAMPLES), Pen(), generator)
    rows = -(-len(FORMS) // COLUMNS)
    sheet = Image.new("L", (COLUMNS * CELL[0], rows * CELL[1]), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, form in enumerate(FORMS):
        x, y = index // rows * CELL[0], index % rows * CELL[1]
        pen.text((x + 4, y), str(form), "black", font)
        sheet.paste(_on_paper(large[index], LARGE), (x, y + NAME))
        for k in range(EXAMPLES):
            example = _on_paper(small[EXAMPLES * index + k], SMALL)
            sheet.paste(example, (x + LARGE + k * SMALL, y + NAME + (LARGE - SMALL) // 2))
    return sheet.quantize(16)


def _on_paper(image: Tensor, side: int) -> Image.Image:
    pixels = (255 * (1 - image.squeeze(0))).round().byte().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)
