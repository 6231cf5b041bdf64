"""What occlusion says about models whose reasons are known."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mnist_lit.module import DigitClassifier
from mnist_lit.show.occlusion import occlusion_maps
from tests.conftest import Command


def linear(weight: Tensor) -> DigitClassifier:
    """A model whose logits are a weighted sum of the pixels: ``(10, 28, 28)`` weights."""
    layer = nn.Linear(784, 10, bias=False)
    layer.weight.data = weight.view(10, 784)
    return DigitClassifier(nn.Sequential(nn.Flatten(), layer)).eval()


def image_with(*pixels: tuple[int, int]) -> Tensor:
    image = torch.zeros(28, 28, dtype=torch.uint8)
    for y, x in pixels:
        image[y, x] = 255
    return image


def test_what_supports_and_what_opposes_a_prediction_is_told_apart() -> None:
    weight = torch.zeros(10, 28, 28)
    weight[3, 6, 6], weight[3, 20, 20] = 5, -2
    (found,) = occlusion_maps(linear(weight), image_with((6, 6), (20, 20), (0, 27))[None])
    others = math.log(9)  # of which each has the logit 0
    assert others < 3  # the model predicts 3
    assert found[4:9, 4:9].flatten().tolist() == pytest.approx(25 * [5], abs=1e-5)
    assert found[18:23, 18:23].flatten().tolist() == pytest.approx(25 * [-2], abs=1e-5)
    found[4:9, 4:9] = found[18:23, 18:23] = 0
    assert found.abs().max() < 1e-5  # neither blank pixels nor ink that the model ignores


def test_squares_over_blank_pixels_change_nothing() -> None:
    weight = torch.randn(10, 28, 28, generator=torch.Generator().manual_seed(1))
    image = image_with(*((y, 14) for y in range(5, 23)))
    (found,) = occlusion_maps(linear(weight), image[None])
    near = torch.zeros(28, 28, dtype=torch.bool)
    near[3:25, 12:17] = True
    assert found[~near].abs().max() < 1e-4
    assert found[near].abs().min() > 1e-4


def test_maps_agree_with_a_computation_by_hand() -> None:
    generator = torch.Generator().manual_seed(2)
    model = DigitClassifier().eval()
    images = torch.randint(256, (2, 28, 28), generator=generator, dtype=torch.uint8)

    def odds(image: Tensor, digit: int) -> float:
        share = model(image.view(1, 1, 28, 28) / 255).double().softmax(dim=1)[0, digit].item()
        return math.log(share / (1 - share))

    with torch.inference_mode():
        found = occlusion_maps(model, images)
        for image, values in zip(images, found, strict=True):
            digit = int(model(image.view(1, 1, 28, 28) / 255).argmax())
            for y, x in ((0, 0), (0, 13), (27, 27), (14, 9)):
                occluded = image.clone()
                occluded[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3] = 0
                expected = odds(image, digit) - odds(occluded, digit)
                assert values[y, x].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("options", [["--index=0"], ["--split=val", "--wrong", "--index=0:3"]])
def test_explanations_are_drawn_beside_the_images(
    mnist_lit: Command, run: Path, data_dir: Path, tmp_path: Path, options: list[str]
) -> None:
    plain = mnist_lit("show", "--ckpt_path=best", "--output=plain.svg", *options)
    outcome = mnist_lit("show", "--ckpt_path=best", "--explain", "--output=new.svg", *options)
    assert outcome.status == 0, outcome.err
    assert outcome.out == plain.out.replace("plain.svg", "new.svg")
    text, without = ((tmp_path / f"{name}.svg").read_text() for name in ("new", "plain"))
    assert "opposes the prediction<" in text
    assert "supports it<" in text
    assert "supports it<" not in without


def test_an_explanation_needs_a_checkpoint(mnist_lit: Command) -> None:
    outcome = mnist_lit("show", "--explain")
    assert outcome.status == 2
    assert outcome.err.splitlines() == [
        "error: --explain needs a checkpoint.",
        "For example: --explain --ckpt_path best",
    ]
