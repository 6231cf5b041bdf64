"""Draw run.png and read.png, two of the README's pictures.

In a clone without other runs, with Chromium::

    python -m mnist_lit fit --config configs/default.yaml --trainer.max_epochs 3 --seed_everything 0
    python -m mnist_lit test --ckpt_path best
    python -m docs.pictures

``python -m tests.server.test_page docs/serve.png`` draws the third.
"""

import io
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from mnist_lit.reading.command import main
from tests.support.browser import browsing

DOCS = Path(__file__).parent


def draw_run(path: Path) -> None:
    """Take a picture of the figures in TensorBoard."""
    command = ["tensorboard", "--port=0", "--logdir=lightning_logs"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        address = next(
            found[0] for line in server.stderr if (found := re.search(r"http://\S+", line))
        )
        with browsing() as browser:
            page = browser.new_page(viewport={"width": 1500, "height": 830})
            page.goto(f"{address}#images")
            page.wait_for_timeout(10_000)  # milliseconds, until the images have been loaded
            shot = page.screenshot()
        server.terminate()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(path, optimize=True)


def draw_photo(path: Path) -> None:
    """Read the photo, and shrink the picture to the width at which GitHub shows it."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        main(["read", str(DOCS / "photo.jpg"), "--output", file.name])
        picture = Image.open(file.name).convert("RGB")
    picture.thumbnail((900, 900))
    picture.quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    draw_run(DOCS / "run.png")
    draw_photo(DOCS / "read.png")
