"""Figures of images, predictions and results: tensors in, matplotlib figures out."""

import math
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor
from torchvision.utils import make_grid

from mnist_lit.metrics import calibration_error, wilson_interval

# Distinguishable for the color-blind (Okabe and Ito, "Color Universal Design", 2008).
BLUE, VERMILION = "#0072B2", "#D55E00"
CHECK, CROSS = "\N{CHECK MARK}", "\N{BALLOT X}"
SMALL = 9  # points, legible at TensorBoard's 100 dots per inch
CENTERED: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
CELL = (36, 34)  # height and width of a digit with its frame and title, in its own pixels


def confusion_figure(counts: Tensor) -> Figure:
    """Draw a confusion matrix, colored by the share of each row.

    The color scale is logarithmic, so that one error in a thousand is visible.

    Args:
        counts: ``(10, 10)`` integers; row is the true digit, column the predicted one.

    Raises:
        ValueError: If ``counts`` has another shape.
    """
    _expect("counts", counts, (10, 10))
    counts = counts.detach().cpu()
    shares = counts / counts.sum(dim=1, keepdim=True)
    figure, axes = _figure(6, 6.2, left=0.6, bottom=0.8, top=0.4)
    norm = LogNorm(5e-4, 1)
    seen = shares.where(counts > 0, torch.nan)  # empty cells stay white
    axes.imshow(seen.numpy(), cmap="Blues", norm=norm)
    dark = norm(shares.numpy()) > 0.6
    for true, predicted in counts.nonzero().tolist():
        color = "white" if dark[true, predicted] else "black"
        count = f"{counts[true, predicted]:,}"
        axes.text(predicted, true, count, color=color, **CENTERED)
    total, right = int(counts.sum()), int(counts.trace())
    axes.set_title(f"{total - right:,} errors in {total:,} images", y=1)
    axes.set(xticks=[], yticks=[])
    for digit in range(10):  # ticks would take four times as long to draw
        axes.text(-0.7, digit, str(digit), **CENTERED)
        axes.text(digit, 9.7, str(digit), **CENTERED)
    axes.set_ylabel("true digit", labelpad=20)
    axes.set_xlabel(
        "predicted digit\n(darker: a larger share of the true digit's images)", labelpad=20
    )
    return figure


def accuracy_by_digit_figure(counts: Tensor) -> Figure:
    """Draw the accuracy of each digit with its 95 % Wilson interval, and the overall accuracy.

    Args:
        counts: ``(10, 10)`` integers; row is the true digit, column the predicted one.

    Raises:
        ValueError: If ``counts`` has another shape.
    """
    _expect("counts", counts, (10, 10))
    counts = counts.detach().cpu().double()
    images = counts.sum(dim=1)
    digits = images.nonzero().flatten()  # a digit without images has no accuracy
    accuracy = counts.diag()[digits] / images[digits]
    low, high = wilson_interval(accuracy, images[digits])
    overall = (counts.trace() / counts.sum()).item()
    figure, axes = _figure(8, 4, left=0.8, bottom=0.5, top=0.4)
    axes.axhline(overall, color="grey", linestyle="--", linewidth=1)
    ends = torch.stack([accuracy - low, high - accuracy]).clamp(min=0)  # may round to below 0
    axes.errorbar(digits.numpy(), accuracy.numpy(), ends.numpy(), fmt="o", color=BLUE, capsize=4)
    beside: dict[str, Any] = {"va": "center", "fontsize": SMALL}
    beside["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for digit, share in zip(digits.tolist(), accuracy.tolist(), strict=True):
        axes.text(digit + 0.15, share, f"{share:.1%}", **beside)
    # Starts at 97 % if every interval fits, so that the figures of a run are comparable.
    bottom = min([0.97, *(math.floor(100 * end) / 100 for end in low.tolist())])
    axes.set(xlim=(-0.5, 10.1), ylim=(bottom, 1 + (1 - bottom) / 30), xticks=range(10))
    axes.yaxis.set_major_formatter(lambda tick, _: f"{100 * tick:g}%")
    axes.grid(axis="y", alpha=0.3)
    axes.set(xlabel="digit", ylabel="accuracy")
    title = f"Accuracy by digit with 95% interval; overall {overall:.2%} (dashed)"
    axes.set_title(title, y=1)
    return figure


def reliability_figure(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Figure:
    """Draw accuracy against confidence, with the expected calibration error.

    Reliability diagram and expected calibration error as in Guo et al., "On Calibration of Modern
    Neural Networks", 2017. The gap of a bin is between its mean confidence and its accuracy.

    Args:
        probabilities: ``(n, 10)`` in [0, 1]; an image's largest one is its confidence.
        labels: ``(n,)`` true digits.
        bins: Number of bins, of equal width.

    Raises:
        ValueError: If a shape differs, there is no image, or a value is outside [0, 1].
    """
    _expect("probabilities", probabilities, ("n", 10))
    _expect("labels", labels, (len(probabilities),))
    probabilities, labels = probabilities.detach().cpu().float(), labels.detach().cpu()
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities has values outside [0, 1].")
    error = calibration_error(probabilities, labels, bins)
    figure, below = _figure(6.4, 6.4, left=0.8, bottom=0.5, top=4.7)
    above = figure.add_axes((0.125, 0.3, 0.84375, 0.6))
    figure.suptitle(f"Expected calibration error {error:.2%} ({len(labels):,} images, {bins} bins)")
    _draw_reliability(above, below, *probabilities.max(dim=1), labels, bins)
    return figure


def filters_figure(weights: Tensor) -> Figure:
    """Draw the filters of a first layer: positive weights red, negative ones blue.

    Args:
        weights: ``(n, 1, h, w)``.

    Raises:
        ValueError: If ``weights`` has another shape or is empty.
    """
    _expect("weights", weights, ("n", 1, "h", "w"))
    figure, axes = _figure(5, 5.6, top=0.6)
    image = _draw_grid(axes, weights, cmap="RdBu_r", norm=CenteredNorm())
    count, _, height, width = weights.shape
    low, high = image.get_clim()
    axes.set_title(
        f"{count} first-layer filters, {height} x {width}\nblue {low:.2g}, white 0, red {high:.2g}",
        y=1,
    )
    return figure


def images_figure(images: Tensor) -> Figure:
    """Draw images as a network sees them, ink white on black.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1].

    Raises:
        ValueError: If ``images`` has another shape or is empty.
    """
    _expect("images", images, ("n", 1, 28, 28))
    figure, axes = _figure(6, 6)
    _draw_grid(axes, images, cmap="gray", vmin=0, vmax=1)
    return figure


def digits_figure(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor | None = None,
    losses: Tensor | None = None,
) -> Figure:
    """Draw digits with their predictions: correct ones blue, errors vermilion.

    The title of a digit is its label, prediction and probability: ``4 → 9 (98.9%)``.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1].
        labels: ``(n,)`` true digits.
        probabilities: ``(n, 10)`` in [0, 1], if there is a model.
        losses: ``(n,)``, shown last if given.

    Raises:
        ValueError: If a shape differs, or there is no image.
    """
    _expect("images", images, ("n", 1, 28, 28))
    _expect("labels", labels, (len(images),))
    if probabilities is not None:
        _expect("probabilities", probabilities, (len(images), 10))
    if losses is not None:
        _expect("losses", losses, (len(images),))
    legend, titles, colors = _titles(labels, probabilities, losses)
    columns = _columns(len(images))
    rows = math.ceil(len(images) / columns)
    inch = min(20, 8 * columns)  # image pixels per inch; few digits are drawn larger
    height = CELL[0] * rows / inch + 0.3
    figure, axes = _figure(CELL[1] * columns / inch, height, top=0.3)
    figure.text(0.5, 1 - 0.18 / height, legend, **CENTERED)
    canvas = torch.ones(CELL[0] * rows, CELL[1] * columns, 4)  # RGBA is drawn faster than RGB
    for place, image in enumerate(images.detach().cpu().float().clamp(0, 1)):
        top, left = CELL[0] * (place // columns), CELL[1] * (place % columns)
        canvas[top + 5 : top + 35, left + 2 : left + 32] = torch.tensor(to_rgba(colors[place]))
        canvas[top + 6 : top + 34, left + 3 : left + 31, :3] = image[0, ..., None]
        x, y = left + CELL[1] / 2, top + 2.5
        axes.text(x - 0.5, y - 0.5, titles[place], color=colors[place], **CENTERED)
    axes.imshow(canvas.numpy(), interpolation="nearest")
    axes.set_axis_off()
    return figure


def digit_figure(image: Tensor, label: int, probabilities: Tensor, loss: float) -> Figure:
    """Draw a digit beside its predicted probabilities: the label blue, an error vermilion.

    Args:
        image: ``(1, 28, 28)`` in [0, 1].
        label: The true digit.
        probabilities: ``(10,)`` in [0, 1].
        loss: In nats.
    """
    _expect("image", image, (1, 28, 28))
    _expect("probabilities", probabilities, (10,))
    prediction, shares = int(probabilities.argmax()), probabilities.tolist()
    color, sign = (BLUE, CHECK) if prediction == label else (VERMILION, CROSS)
    figure = Figure((7, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(image[0].numpy(), cmap="gray", vmin=0, vmax=1)
    left.set(title=f"label {label}", xticks=[], yticks=[])
    bars = right.barh(range(10), shares, color="grey")
    right.bar_label(bars, [f"{share:.1%}" for share in shares], padding=3)
    right.set_title(f"{sign} predicted {prediction}, loss {loss:.4f}", color=color)
    right.set(yticks=range(10), ylabel="digit", ylim=(9.6, -0.6))  # 0 at the top
    right.set(xlabel="probability", xlim=(0, 1.25))
    right.set_xticks([0, 0.5, 1], labels=["0%", "50%", "100%"])
    for digit, marked in ((prediction, color), (label, BLUE)):
        bars[digit].set_color(marked)
        right.get_yticklabels()[digit].set_color(marked)  # the bar may be too short to see
    right.spines[["top", "right"]].set_visible(False)
    return figure


def _expect(name: str, tensor: Tensor, shape: tuple[int | str, ...]) -> None:
    fits = tensor.dim() == len(shape) and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = str(shape).replace("'", "")
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {wanted}, or is empty.")


def _figure(
    width: float, height: float, *, left: float = 0, bottom: float = 0, top: float = 0
) -> tuple[Figure, Axes]:
    # Margins in inches: matplotlib's own layouts draw a figure twice.
    figure = Figure((width, height))
    right = 0.2 if left else 0
    across, up = (width - left - right) / width, (height - bottom - top) / height
    return figure, figure.add_axes((left / width, bottom / height, across, up))


def _titles(
    labels: Tensor, probabilities: Tensor | None, losses: Tensor | None
) -> tuple[str, list[str], list[str]]:
    """Return the legend of the titles of digits, the titles, and their colors."""
    legend, titles = "label", [str(label) for label in labels.tolist()]
    colors = ["black"] * len(titles)
    if probabilities is not None:
        legend += " → prediction (probability)"
        for place, (share, digit) in enumerate(zip(*probabilities.max(dim=1), strict=True)):
            right = digit == labels[place]
            colors[place], sign = (BLUE, CHECK) if right else (VERMILION, CROSS)
            titles[place] = f"{sign} {labels[place]} → {digit} ({share:.1%})"
    if losses is not None:
        legend += ", loss"
        for place, loss in enumerate(losses.tolist()):
            titles[place] += f", {loss:{'.2f' if loss < 1000 else '.0e'}}"
    return legend, titles, colors


def _draw_reliability(
    above: Axes, below: Axes, confidence: Tensor, prediction: Tensor, labels: Tensor, bins: int
) -> None:
    edges = torch.linspace(0, 1, bins + 1)
    which = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1)
    images = which.bincount(minlength=bins)
    accuracy = which.bincount(prediction.eq(labels), minlength=bins) / images  # nan where empty
    mean = which.bincount(confidence, minlength=bins) / images
    above.stairs(accuracy, edges, fill=True, color=BLUE, alpha=0.4, label="accuracy")
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    ends = mean.numpy(), mean.numpy(), accuracy.numpy()
    above.vlines(*ends, color=VERMILION, linewidth=3, label="gap")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), xticks=[])
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    below.stairs(images, edges, fill=True, color="grey")
    below.set_yscale("symlog")
    ticks = [10**power for power in range(len(str(2 * len(labels))))]
    below.set_yticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    below.set(ylim=(0, 2 * len(labels)), xlim=(0, 1))
    below.set(xlabel="confidence: probability of the predicted digit", ylabel="images")


def _columns(count: int) -> int:
    return math.ceil(math.sqrt(count))


def _draw_grid(axes: Axes, tiles: Tensor, **look: Any) -> AxesImage:
    # (n, 1, h, w) -> (rows * (h + 1) + 1, columns * (w + 1) + 1), gaps are NaN: grey
    tiles = tiles.detach().cpu().float()
    grid = make_grid(tiles, nrow=_columns(len(tiles)), padding=1, pad_value=torch.nan)[0]
    axes.set(xticks=[], yticks=[], facecolor="lightgrey")
    axes.spines[:].set_visible(False)
    return axes.imshow(grid.numpy(), interpolation="nearest", **look)
