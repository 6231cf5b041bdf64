from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy.stats import binomtest
from torch import Tensor

from mnist_lit.datasets import class_legend, class_names
from mnist_lit.show.figures import (
    accuracy_by_digit_figure,
    add_legend,
    confusion_figure,
    digit_figure,
    digits_figure,
    filters_figure,
    images_figure,
    occlusion_figure,
    reliability_figure,
)

BLUE, VERMILION = "#0072b2", "#d55e00"


def judged(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels, and probabilities that are often but not always right."""
    generator = torch.Generator().manual_seed(n)
    labels = torch.randint(10, (n,), generator=generator)
    logits = 2 * torch.randn(n, 10, generator=generator)
    logits[range(n), labels] += 3
    return torch.rand(n, 1, 28, 28, generator=generator), labels, logits.softmax(dim=1)


def good_counts() -> Tensor:
    """Two errors in ten thousand: one 4 read as 9, one 7 read as 2."""
    counts = 1000 * torch.eye(10, dtype=torch.long)
    counts[4, 4] = counts[7, 7] = 999
    counts[4, 9] = counts[7, 2] = 1
    return counts


def pixels(image: Any) -> Any:
    """The array that is drawn; the types of matplotlib are wider."""
    return image.get_array()


def tiles_drawn(figure: Figure, tile_area: int) -> float:
    """The number of tiles in the figure's grid, whose gaps are not numbers."""
    (image,) = figure.axes[0].images
    return np.ma.count(np.ma.masked_invalid(pixels(image))) / tile_area


def named(figure: Figure) -> Figure:
    add_legend(figure, class_legend(class_names("FashionMNIST")))
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "confusion": lambda: confusion_figure(good_counts()),
    "accuracy": lambda: accuracy_by_digit_figure(1000 * torch.eye(10, dtype=torch.long)),
    "reliability": lambda: reliability_figure(*judged(200)[:0:-1]),
    "filters": lambda: filters_figure(torch.linspace(-1, 2, 16 * 25).view(16, 1, 5, 5)),
    "images": lambda: images_figure(judged(16)[0]),
    "digits": lambda: digits_figure(
        *judged(10)[:2], probabilities=torch.eye(10), losses=torch.full((10,), 123.45)
    ),
    "labels": lambda: digits_figure(*judged(3)[:2]),
    "occlusion": lambda: occlusion_figure(
        judged(5)[0], torch.randn(5, 28, 28), *judged(5)[1:], torch.full((5,), 123.45)
    ),
    "names": lambda: named(confusion_figure(good_counts())),
    "one digit": lambda: digit_figure(judged(1)[0][0], 7, torch.eye(10)[7], 0.0),
}


def texts_drawn(figure: Any, monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    drawn: list[Text] = []
    monkeypatch.setattr(Text, "draw", lambda text, _: drawn.append(text))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return [text for text in drawn if text.get_text() and text.get_visible()]


@pytest.mark.parametrize("name", sorted(FIGURES.keys() - {"one digit", "occlusion", "names"}))
def test_text_is_legible_at_the_size_at_which_tensorboard_shows_a_figure(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = (figure := FIGURES[name]()).get_size_inches()
    pixels = min(343 / width, 215 / height)  # per inch, under TIME SERIES; IMAGES is no smaller
    assert all(
        float(text.get_fontsize()) / 72 * pixels > 9.5 for text in texts_drawn(figure, monkeypatch)
    )


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_text_stays_within_the_figure_and_does_not_overlap(
    draw: Callable[[], Figure], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = texts_drawn(figure := draw(), monkeypatch)
    boxes = [text.get_window_extent() for text in written]
    for i, box in enumerate(boxes):
        assert min(box.x0, box.y0) >= 0, written[i]
        assert box.x1 <= figure.bbox.width, written[i]
        assert box.y1 <= figure.bbox.height, written[i]
        overlapped = [written[k] for k in range(i) if box.overlaps(boxes[k])]
        assert not overlapped, written[i]


def test_confusion_figure_writes_every_count_but_zeros_at_its_true_row_and_predicted_column() -> (
    None
):
    axes = confusion_figure(good_counts()).axes[0]
    written = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    cells = {place: text for place, text in written.items() if 0 <= min(place) <= max(place) <= 9}
    diagonal = {(digit, digit): "1,000" for digit in range(10)} | {(4, 4): "999", (7, 7): "999"}
    assert cells == diagonal | {(4, 9): "1", (7, 2): "1"}
    assert [written[digit, -0.75] for digit in range(10)] == list("0123456789")
    assert [written[9.95, digit] for digit in range(10)] == list("0123456789")
    assert axes.get_xlabel().startswith("predicted digit")
    assert axes.get_ylabel() == "true digit"
    assert axes.get_title() == "2 errors in 10,000 images"


def test_confusion_figure_shows_one_error_in_a_thousand_and_colors_by_the_row() -> None:
    counts = good_counts()
    counts[0] = torch.tensor([50, 50, 0, 0, 0, 0, 0, 0, 0, 0])
    counts[1] = torch.tensor([500, 500, 0, 0, 0, 0, 0, 0, 0, 0])
    counts[3] = 0  # a digit without images stays white
    (image,) = confusion_figure(counts).axes[0].images
    colors = image.to_rgba(pixels(image))  # (10, 10, 4)
    on_white = colors[..., :3] * colors[..., 3:] + 1 - colors[..., 3:]
    darkness = 1 - on_white.mean(axis=2)
    assert darkness[4, 9] > 0.05
    assert darkness[4, 4] > 5 * darkness[4, 9]
    assert darkness[0, 0] == darkness[1, 1]
    assert darkness[3].max() == darkness[4, 0] == 0


def test_accuracy_by_digit_figure_draws_the_wilson_interval() -> None:
    counts = good_counts()
    counts[8] = torch.tensor([0, 0, 0, 13, 0, 0, 0, 0, 487, 0])
    figure = accuracy_by_digit_figure(counts)
    (axes,) = figure.axes
    bars: Any = axes.containers[0]
    for digit, segment in enumerate(bars.lines[2][0].get_segments()):
        right, images = int(counts[digit, digit]), int(counts[digit].sum())
        interval = binomtest(right, images).proportion_ci(method="wilson")
        np.testing.assert_allclose(segment, [(digit, interval.low), (digit, interval.high)])
    assert axes.get_title() == "Accuracy by digit; overall 99.84% (dashed)"


@pytest.mark.parametrize(("right", "bottom"), [(100, 0.97), (99, 0.97), (95, 0.93), (0, 0)])
def test_accuracy_by_digit_figure_begins_at_97_percent_unless_an_interval_reaches_lower(
    right: int, bottom: float
) -> None:
    counts = 1000 * torch.eye(10, dtype=torch.long)
    counts[5, 5], counts[5, 6] = 10 * right, 1000 - 10 * right
    low, high = accuracy_by_digit_figure(counts).axes[0].get_ylim()
    assert low == pytest.approx(bottom)
    assert 1 < high < 1 + (1 - low) / 10


def test_accuracy_by_digit_figure_leaves_out_a_digit_without_images() -> None:
    counts = good_counts()
    counts[5] = 0
    axes = accuracy_by_digit_figure(counts).axes[0]
    bars: Any = axes.containers[0]
    assert bars.lines[0].get_xdata().tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks[4:7] == ["4\n99.9", "5", "6\n100"]


def test_accuracy_by_digit_figure_writes_three_digits() -> None:
    counts = good_counts()
    counts[0, :2] = torch.tensor([990, 10])
    ticks = accuracy_by_digit_figure(counts).axes[0].get_xticklabels()
    shares = [tick.get_text().partition("\n")[2] for tick in ticks]
    assert shares == ["99.0", "100", "100", "100", "99.9", "100", "100", "99.9", "100", "100"]


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_reliability_figure_agrees_with_a_computation_by_hand(bins: int) -> None:
    _, labels, probabilities = judged(1000)
    # An error and thirty right answers of which the model is certain.
    labels[:31] = torch.tensor([1] + 30 * [0])
    probabilities[:31] = torch.eye(10)[0]
    below, above = (figure := reliability_figure(probabilities, labels, bins)).axes

    confidence = probabilities.numpy().max(axis=1)
    right = probabilities.numpy().argmax(axis=1) == labels.numpy()
    error = 0.0
    for place in range(bins):
        inside = np.minimum((confidence * bins).astype(int), bins - 1) == place
        counted: Any = below.patches[0]
        assert counted.get_data().values[place] == inside.sum()
        if not inside.any():
            continue
        accuracy, mean = right[inside].mean(), confidence[inside].mean()
        error += inside.mean() * abs(accuracy - mean)
        drawn: Any = above.patches[0]
        gap: Any = above.collections[0]
        bars = drawn.get_data()
        assert bars.edges[place] == pytest.approx(place / bins)
        assert bars.values[place] == pytest.approx(accuracy)
        assert [mean, mean, mean, accuracy] == pytest.approx(gap.get_segments()[place].flatten())
    assert figure.get_suptitle() == (
        f"Expected calibration error {error:.2%} (1,000 images, {bins} bins)"
    )


def test_filters_figure_draws_each_filter_and_white_is_zero() -> None:
    weights = torch.linspace(-1, 3, 5 * 3 * 3).view(5, 1, 3, 3)
    figure = filters_figure(weights)
    (image,) = figure.axes[0].images
    assert tiles_drawn(figure, 3 * 3) == 5
    np.testing.assert_array_equal(pixels(image)[1:4, 1:4], weights[0, 0])
    assert np.asarray(image.norm(np.array([0, 3]))).tolist() == [0.5, 1]
    assert "blue -3, white 0, red 3" in figure.axes[0].get_title()


def test_images_figure_draws_each_image_ink_white_on_black() -> None:
    images, *_ = judged(11)
    figure = images_figure(images)
    (image,) = figure.axes[0].images
    assert tiles_drawn(figure, 28 * 28) == 11
    np.testing.assert_array_equal(pixels(image)[1:29, 30:58], images[1, 0])
    black, white = image.to_rgba(np.array([0.0, 1.0]))
    assert (to_hex(tuple(black)), to_hex(tuple(white))) == ("#000000", "#ffffff")


def test_digits_figure_tells_right_from_wrong_by_color_and_by_sign() -> None:
    images, *_ = judged(3)
    probabilities = torch.full((3, 10), 0.01)
    probabilities[[0, 1, 2], [7, 9, 4]] = 0.91
    figure = digits_figure(images, torch.tensor([7, 4, 4]), probabilities)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [
        *("✓ 7→7", "91.0%"),
        *("✗ 4→9", "91.0%"),
        *("✓ 4→4", "91.0%"),
    ]
    canvas = pixels(axes.images[0])
    for place, color in enumerate([BLUE, VERMILION, BLUE]):
        above, below = axes.texts[2 * place : 2 * place + 2]
        assert to_hex(above.get_color()) == to_hex(below.get_color()) == color
        x = round(above.get_position()[0] - 13.5)
        middle = (above.get_position()[1] + below.get_position()[1]) / 2
        y = round(middle - 13.5)
        tile = canvas[y : y + 28, x : x + 28]
        np.testing.assert_allclose(tile[..., :3], images[place, 0][..., None].expand(28, 28, 3))
        assert to_hex(canvas[y - 1, x]) == to_hex(canvas[y + 28, x]) == color
    assert figure.texts[0].get_text() == "label → prediction, its probability"


def test_digits_figure_writes_the_losses_it_is_given() -> None:
    figure = digits_figure(*judged(16), losses=torch.arange(16) / 8)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[2:9:3] == ["0.00", "0.12", "0.25"]
    assert figure.texts[0].get_text().endswith(", loss")


def test_digits_figure_without_a_model_writes_the_labels() -> None:
    figure = digits_figure(*judged(3)[:2])
    labels = judged(3)[1].tolist()
    assert [text.get_text() for text in figure.axes[0].texts] == list(map(str, labels))


def test_occlusion_figure_is_green_where_ink_supports_and_purple_where_it_opposes() -> None:
    images, labels, probabilities = judged(2)
    maps = torch.zeros(2, 28, 28)
    maps[0, 3, 4], maps[0, 8, 9] = 4, -4
    maps[1, 3, 4] = 0.1  # each image has a scale of its own
    figure = occlusion_figure(images, maps, labels, probabilities, torch.zeros(2))
    axes, bar = figure.axes
    canvas = pixels(axes.images[0])
    corners = [(int(x) - 28, int(y)) for x, y in (caption_foot(axes, place) for place in (0, 1))]
    for place, (x, y) in enumerate(corners):
        shown = canvas[y : y + 28, x : x + 57, :3]
        gray = images[place, 0][..., None].expand(28, 28, 3)
        np.testing.assert_allclose(shown[:, :28], gray, atol=1e-6)
        red, green, blue = shown[3, 29 + 4]
        assert green > max(red, blue) + 0.1
    x, y = corners[0]
    red, green, blue = canvas[y + 8, x + 29 + 9, :3]
    assert green < min(red, blue) - 0.1
    assert canvas[y, x + 29, :3].min() > 0.95
    assert [text.get_text() for text in bar.texts] == ["opposes the prediction", "supports it"]
    red, green, blue, _ = bar.images[0].to_rgba(pixels(bar.images[0]))[0, 0] / 255
    assert green < min(red, blue)  # the side of what opposes is purple


def caption_foot(axes: Axes, place: int) -> tuple[float, float]:
    """The middle of a tile's upper edge, by its caption of three lines."""
    above, below, _ = axes.texts[3 * place : 3 * place + 3]
    x, top = above.get_position()
    return x, (top + below.get_position()[1]) / 2 - 13.5


def test_digit_figure_marks_label_and_error() -> None:
    probabilities = torch.tensor([0.0, 0.1, 0, 0, 0.7, 0, 0, 0, 0, 0.2])
    left, right = digit_figure(torch.rand(1, 28, 28), 9, probabilities, 1.6094).axes
    assert left.get_title() == "label 9"
    assert right.get_title() == "\N{BALLOT X} predicted 4, loss 1.6094"
    bars: list[Any] = list(right.patches)
    widths = [bar.get_width() for bar in bars]
    assert widths == pytest.approx(probabilities.tolist())
    colors = [to_hex(bar.get_facecolor()) for bar in right.patches]
    assert colors == ["#808080"] * 4 + [VERMILION] + ["#808080"] * 4 + [BLUE]
    _, right = digit_figure(torch.rand(1, 28, 28), 4, probabilities, 0.3567).axes
    assert right.get_title() == "\N{CHECK MARK} predicted 4, loss 0.3567"
    assert to_hex(right.patches[4].get_facecolor()) == BLUE
    assert to_hex(right.title.get_color()) == BLUE


def test_tensors_that_training_has_are_drawn_too() -> None:
    images, labels, probabilities = judged(4)
    filters_figure(torch.nn.Conv2d(1, 4, 3).weight)
    filters_figure(torch.full((4, 1, 3, 3), torch.nan))
    digits_figure(images.bfloat16(), labels, probabilities.requires_grad_())
    reliability_figure(probabilities.bfloat16(), labels)
    confusion_figure(torch.zeros(10, 10, dtype=torch.long))
    accuracy_by_digit_figure(torch.zeros(10, 10, dtype=torch.int32))


IMAGES, LABELS, PROBABILITIES = judged(5)


@pytest.mark.parametrize(
    ("draw", "name"),
    [
        (lambda: confusion_figure(torch.ones(9, 10)), "counts"),
        (lambda: accuracy_by_digit_figure(torch.ones(100)), "counts"),
        (lambda: reliability_figure(PROBABILITIES[:, :9], LABELS), "probabilities"),
        (lambda: reliability_figure(PROBABILITIES, LABELS[:4]), "labels"),
        (lambda: reliability_figure(PROBABILITIES[:0], LABELS[:0]), "probabilities"),
        (lambda: filters_figure(torch.ones(4, 3, 5, 5)), "weights"),
        (lambda: images_figure(IMAGES[:, 0]), "images"),
        (lambda: images_figure(IMAGES[:0]), "images"),
        (lambda: occlusion_figure(IMAGES, IMAGES, LABELS, PROBABILITIES, LABELS), "maps"),
        (lambda: digits_figure(IMAGES[..., :27], LABELS, PROBABILITIES), "images"),
        (lambda: digits_figure(IMAGES, LABELS[:4], PROBABILITIES), "labels"),
        (lambda: digits_figure(IMAGES, LABELS, PROBABILITIES[:4]), "probabilities"),
        (lambda: digits_figure(IMAGES, LABELS, PROBABILITIES, torch.ones(5, 1)), "losses"),
    ],
)
def test_other_shapes_are_refused_by_name(draw: Callable[[], Figure], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} has shape"):
        draw()


@pytest.mark.parametrize("factor", [3, -1, torch.nan])
def test_reliability_figure_refuses_numbers_that_are_no_probabilities(factor: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        reliability_figure(factor * PROBABILITIES, LABELS)


def test_no_figure_stays_open_in_pyplot() -> None:
    for draw in FIGURES.values():
        draw()
    assert pyplot.get_fignums() == []
