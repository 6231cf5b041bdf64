"""Pictures of what a model sees and how it judges: tensors in, matplotlib figures out."""

import math
from statistics import NormalDist
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error
from torchvision.utils import make_grid

# The colour-blind tell these apart (Okabe and Ito, "Color Universal Design", 2008).
BLUE, VERMILION = "#0072B2", "#D55E00"
SMALL = 9  # points, legible at TensorBoard's 100 dots per inch


def confusion_figure(counts: Tensor) -> Figure:
    """Draw a confusion matrix, each row coloured by its share.

    The colours are logarithmic, so that one error in a thousand shows beside the diagonal.

    Args:
        counts: ``(10, 10)`` integers; row is the true digit, column the predicted one.

    Raises:
        ValueError: If ``counts`` has another shape.
    """
    _expect("counts", counts, (10, 10))
    counts = counts.detach().cpu()
    shares = counts / counts.sum(dim=1, keepdim=True)
    figure = Figure((6.8, 6), layout="constrained")
    axes = figure.subplots()
    norm = LogNorm(5e-4, 1)
    seen = shares.where(counts > 0, torch.nan)  # the rest stays white
    image = axes.imshow(seen.numpy(), cmap="Blues", norm=norm)
    centred: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SMALL}
    for true, predicted in counts.nonzero().tolist():
        color = "white" if norm(shares[true, predicted].item()) > 0.6 else "black"
        axes.text(predicted, true, f"{counts[true, predicted]:,}", color=color, **centred)
    total, right = int(counts.sum()), int(counts.trace())
    axes.set(title=f"{total - right:,} errors in {total:,} images")
    axes.set(xlabel="predicted digit", ylabel="true digit", xticks=range(10), yticks=range(10))
    bar = figure.colorbar(image, label="share of the true digit's images", shrink=0.8)
    bar.set_ticks([0.001, 0.01, 0.1, 1], labels=["0.1%", "1%", "10%", "100%"])
    return figure


def accuracy_by_digit_figure(counts: Tensor) -> Figure:
    """Draw the accuracy of each digit with its 95 % Wilson interval, and that of all digits.

    Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

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
    low, high = _wilson_interval(accuracy, images[digits])
    overall = (counts.trace() / counts.sum()).item()
    figure = Figure((8, 4), layout="constrained")
    axes = figure.subplots()
    axes.axhline(overall, color="grey", linestyle="--", linewidth=1)
    ends = torch.stack([accuracy - low, high - accuracy]).clamp(min=0)  # may round to below 0
    axes.errorbar(digits.numpy(), accuracy.numpy(), ends.numpy(), fmt="o", color=BLUE, capsize=4)
    beside: dict[str, Any] = {"va": "center", "fontsize": SMALL}
    beside["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for digit, share in zip(digits.tolist(), accuracy.tolist(), strict=True):
        axes.text(digit + 0.15, share, f"{share:.1%}", **beside)
    # From 97 % on while every interval fits, so that the pictures of a run compare.
    bottom = min([0.97, *(math.floor(100 * end) / 100 for end in low.tolist())])
    axes.set(xlim=(-0.5, 10.1), ylim=(bottom, 1 + (1 - bottom) / 30), xticks=range(10))
    axes.yaxis.set_major_formatter(lambda tick, _: f"{100 * tick:g}%")
    axes.grid(axis="y", alpha=0.3)
    title = f"Accuracy of all digits {overall:.2%} (dashed), of each with 95% interval"
    axes.set(title=title, xlabel="digit", ylabel="accuracy")
    return figure


def reliability_figure(probabilities: Tensor, labels: Tensor, bins: int = 15) -> Figure:
    """Draw how often a model is right when it is how sure, with its calibration error.

    Reliability diagram and expected calibration error as in Guo et al., "On Calibration of Modern
    Neural Networks", 2017. The gap of a bin is between its mean confidence and its accuracy.

    Args:
        probabilities: ``(n, 10)`` in [0, 1]; an image's largest one is its confidence.
        labels: ``(n,)`` true digits.
        bins: Number of bins, of equal width.

    Raises:
        ValueError: If the shapes are others, there is no image, or a value is outside [0, 1].
    """
    _expect("probabilities", probabilities, ("n", 10))
    _expect("labels", labels, (len(probabilities),))
    probabilities, labels = probabilities.detach().cpu().float(), labels.detach().cpu()
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities has values outside [0, 1].")
    # torchmetrics would give the confidences of exactly 1 a bin of their own.
    probabilities = probabilities.clamp(max=1 - torch.finfo(torch.float).eps)
    error = multiclass_calibration_error(probabilities, labels, num_classes=10, n_bins=bins)
    figure = Figure((6.4, 6.4), layout="constrained")
    figure.suptitle(f"Expected calibration error {error:.2%} ({len(labels):,} images, {bins} bins)")
    above, below = figure.subplots(2, sharex=True, height_ratios=[3, 1])
    _draw_reliability(above, below, *probabilities.max(dim=1), labels, bins)
    return figure


def filters_figure(weights: Tensor) -> Figure:
    """Draw the filters of a first layer, red where they like ink and blue where they do not.

    Args:
        weights: ``(n, 1, h, w)``.

    Raises:
        ValueError: If ``weights`` has another shape or is empty.
    """
    _expect("weights", weights, ("n", 1, "h", "w"))
    figure = Figure((6, 5), layout="constrained")
    axes = figure.subplots()
    image = _draw_grid(axes, weights, cmap="RdBu_r", norm=CenteredNorm())
    figure.colorbar(image, label="weight", shrink=0.8)
    count, _, height, width = weights.shape
    axes.set(title=f"{count} first-layer filters, {height} x {width}")
    return figure


def images_figure(images: Tensor) -> Figure:
    """Draw images as a network sees them, ink white on black.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1].

    Raises:
        ValueError: If ``images`` has another shape or is empty.
    """
    _expect("images", images, ("n", 1, 28, 28))
    figure = Figure((6, 6), layout="constrained")
    _draw_grid(figure.subplots(), images, cmap="gray", vmin=0, vmax=1)
    return figure


def digits_figure(
    images: Tensor, labels: Tensor, probabilities: Tensor, losses: Tensor | None = None
) -> Figure:
    """Draw digits with what a model reads in them: right in blue, wrong in vermilion.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1]; sixteen make a handy picture.
        labels: ``(n,)`` true digits.
        probabilities: ``(n, 10)`` in [0, 1].
        losses: ``(n,)``, written beside the digits if given.

    Raises:
        ValueError: If the shapes are others, or there is no image.
    """
    _expect("images", images, ("n", 1, 28, 28))
    _expect("labels", labels, (len(images),))
    _expect("probabilities", probabilities, (len(images), 10))
    notes = [""] * len(images)
    if losses is not None:
        _expect("losses", losses, (len(images),))
        notes = [f", loss {loss:.2f}" for loss in losses.tolist()]
    probability, prediction = probabilities.max(dim=1)
    answers = zip(labels.tolist(), prediction.tolist(), probability.tolist(), strict=True)
    columns = _columns(len(images))
    rows = math.ceil(len(images) / columns)
    figure = Figure((1.6 * columns, 1.9 * rows), layout="constrained")
    for place, (label, digit, share) in enumerate(answers):
        right = digit == label
        color, sign = (BLUE, "\N{CHECK MARK}") if right else (VERMILION, "\N{BALLOT X}")
        title = f"{sign} reads {digit} ({share:.1%})\ntruth {label}{notes[place]}"
        axes = figure.add_subplot(rows, columns, place + 1)
        axes.set_title(title, color=color, fontsize=SMALL)
        _draw_grid(axes, images[place : place + 1], cmap="gray", vmin=0, vmax=1)
        axes.spines[:].set(visible=True, color=color, linewidth=3)
    return figure


def _expect(name: str, tensor: Tensor, shape: tuple[int | str, ...]) -> None:
    fits = tensor.dim() == len(shape) and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = str(shape).replace("'", "")
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {wanted}, or is empty.")


def _wilson_interval(share: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    # Of 95 %; unlike the normal approximation it has a width even where all are right.
    z = NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * (share * (1 - share) / n + z**2 / (4 * n**2)).sqrt() / (1 + z**2 / n)
    return centre - half, centre + half


def _draw_reliability(
    above: Axes, below: Axes, confidence: Tensor, prediction: Tensor, labels: Tensor, bins: int
) -> None:
    edges = torch.linspace(0, 1, bins + 1)
    which = torch.bucketize(confidence, edges, right=True) - 1  # as torchmetrics does
    images = which.bincount(minlength=bins)
    accuracy = which.bincount(prediction.eq(labels), minlength=bins) / images  # nan where empty
    mean = which.bincount(confidence, minlength=bins) / images
    bars: dict[str, Any] = {"width": 1 / bins, "align": "edge", "edgecolor": "white"}
    left = edges[:-1].numpy()
    above.bar(left, accuracy.numpy(), color=BLUE, alpha=0.4, label="accuracy", **bars)
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfectly calibrated")
    ends = mean.numpy(), mean.numpy(), accuracy.numpy()
    above.vlines(*ends, color=VERMILION, linewidth=3, label="gap")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
    above.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)
    below.bar(left, images.numpy(), color="grey", **bars)
    below.set(yscale="log", ylim=(0.5, 2 * len(labels)))
    below.minorticks_off()
    below.yaxis.set_major_formatter(lambda tick, _: f"{tick:,.0f}")
    below.set(xlabel="confidence: probability of the digit that the model reads", ylabel="images")


def _columns(count: int) -> int:
    return math.ceil(math.sqrt(count))


def _draw_grid(axes: Axes, tiles: Tensor, **look: Any) -> AxesImage:
    # (n, 1, h, w) -> (rows * (h + 1) + 1, columns * (w + 1) + 1), gaps not a number: grey
    tiles = tiles.detach().cpu().float()
    grid = make_grid(tiles, nrow=_columns(len(tiles)), padding=1, pad_value=torch.nan)[0]
    axes.set(xticks=[], yticks=[], facecolor="lightgrey")
    axes.spines[:].set_visible(False)
    return axes.imshow(grid.numpy(), **look)
