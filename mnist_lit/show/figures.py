"""Figures of images, predictions and results: tensors in, matplotlib figures out."""

import math
from typing import Any

import torch
from matplotlib import colormaps, rc_context
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
# TensorBoard shows an image 350 pixels wide under IMAGES, and in at most 343 x 215 pixels under
# TIME SERIES. It samples pixels without smoothing, so its figures have two for each of these.
WIDTH, HEIGHT = 3.5, 2.15  # inches
SMALL = 7  # points: 10 of TensorBoard's pixels, less 3% under TIME SERIES
LINE = 0.125  # height of a line of such text, in inches
STYLE: dict[Any, Any] = {
    **{"font.size": SMALL, "axes.titlesize": "medium", "figure.titlesize": "medium"},
    **{"figure.dpi": 200, "axes.linewidth": 0.5},
}
CENTERED: dict[str, Any] = {"ha": "center", "va": "center"}


@rc_context(STYLE)
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
    figure, axes = _figure(left=0.32, bottom=0.29, top=0.16)
    norm = LogNorm(5e-4, 1)
    seen = shares.where(counts > 0, torch.nan)  # empty cells stay white
    axes.imshow(seen.numpy(), cmap="Blues", norm=norm, aspect="auto")
    dark = norm(shares.numpy()) > 0.6
    for true, predicted in counts.nonzero().tolist():
        color = "white" if dark[true, predicted] else "black"
        axes.text(predicted, true, f"{counts[true, predicted]:,}", color=color, **CENTERED)
    total, right = int(counts.sum()), int(counts.trace())
    axes.set_title(f"{total - right:,} errors in {total:,} images", y=1, pad=2)
    axes.set(xticks=[], yticks=[])
    for digit in range(10):  # ticks would take four times as long to draw
        axes.text(-0.75, digit, str(digit), **CENTERED)
        axes.text(digit, 9.95, str(digit), **CENTERED)
    axes.set_ylabel("true digit", labelpad=11)
    axes.set_xlabel("predicted digit (darker: a larger share of the true digit)", labelpad=11)
    return figure


@rc_context(STYLE)
def accuracy_by_digit_figure(counts: Tensor) -> Figure:
    """Draw the accuracy of each digit with its 95% Wilson interval, and the overall accuracy.

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
    figure, axes = _figure(left=0.6, bottom=0.44, top=0.18)
    axes.axhline(overall, color="grey", linestyle="--", linewidth=1)
    ends = torch.stack([accuracy - low, high - accuracy]).clamp(min=0)  # may round to below 0
    look: dict[str, Any] = {"fmt": "o", "color": BLUE, "markersize": 3, "capsize": 3}
    axes.errorbar(digits.numpy(), accuracy.numpy(), ends.numpy(), **look)
    ticks = [str(digit) for digit in range(10)]
    for digit, share in zip(digits.tolist(), accuracy.tolist(), strict=True):
        ticks[digit] += f"\n{100 * share:#.3g}".rstrip(".")  # three digits: 99.0, 100
    axes.set_xticks(range(10), labels=ticks)
    # Starts at 97 % if every interval fits, so that the figures of a run are comparable.
    bottom = min([0.97, *(math.floor(100 * end) / 100 for end in low.tolist())])
    axes.set(xlim=(-0.5, 9.5), ylim=(bottom, 1 + (1 - bottom) / 30))
    axes.yaxis.set_major_formatter(lambda tick, _: f"{100 * tick:g}%")
    axes.grid(axis="y", alpha=0.3)
    axes.set_xlabel("digit, and its accuracy in %", labelpad=1)
    axes.set_ylabel("accuracy, 95% interval")
    axes.set_title(f"Accuracy by digit; overall {overall:.2%} (dashed)", y=1, pad=3)
    return figure


@rc_context(STYLE)
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
    figure, below = _figure(left=0.6, bottom=0.32, top=1.41)
    _, above = _figure(figure, left=0.6, bottom=0.84, top=0.31)
    figure.suptitle(
        f"Expected calibration error {error:.2%} ({len(labels):,} images, {bins} bins)",
        y=1 - 0.09 / HEIGHT,
        va="center",
    )
    _draw_reliability(above, below, *probabilities.max(dim=1), labels, bins)
    return figure


@rc_context(STYLE)
def filters_figure(weights: Tensor) -> Figure:
    """Draw the filters of a first layer: positive weights red, negative ones blue.

    Args:
        weights: ``(n, 1, h, w)``.

    Raises:
        ValueError: If ``weights`` has another shape or is empty.
    """
    _expect("weights", weights, ("n", 1, "h", "w"))
    figure, axes = _figure(top=0.16)
    image = _draw_grid(axes, weights, cmap="RdBu_r", norm=CenteredNorm())
    count, _, height, width = weights.shape
    low, high = image.get_clim()
    scale = f"blue {low:.2g}, white 0, red {high:.2g}"
    axes.set_title(f"{count} first-layer filters, {height} x {width}: {scale}", y=1, pad=2)
    return figure


@rc_context(STYLE)
def images_figure(images: Tensor) -> Figure:
    """Draw images as a network sees them, ink white on black.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1].

    Raises:
        ValueError: If ``images`` has another shape or is empty.
    """
    _expect("images", images, ("n", 1, 28, 28))
    figure, axes = _figure()
    _draw_grid(axes, images, cmap="gray", vmin=0, vmax=1)
    return figure


@rc_context(STYLE)
def digits_figure(
    images: Tensor,
    labels: Tensor,
    probabilities: Tensor | None = None,
    losses: Tensor | None = None,
) -> Figure:
    """Draw digits with their predictions: correct ones blue, errors vermilion.

    Above a digit are its label and prediction, as in ``4 → 9``; below, probability and loss.

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
    return _draw_digits(_grey(images), *_captions(labels, probabilities, losses))[0]


@rc_context(STYLE)
def occlusion_figure(
    images: Tensor, maps: Tensor, labels: Tensor, probabilities: Tensor, losses: Tensor
) -> Figure:
    """Draw digits with their predictions, and beside each what supports its prediction.

    Args:
        images: ``(n, 1, 28, 28)`` in [0, 1].
        maps: ``(n, 28, 28)``: how much each pixel supports the prediction; negative ones oppose it.
        labels: ``(n,)`` true digits.
        probabilities: ``(n, 10)`` in [0, 1].
        losses: ``(n,)``.

    Raises:
        ValueError: If the shape of ``images`` or ``maps`` differs, or there is no image.
    """
    _expect("images", images, ("n", 1, 28, 28))
    _expect("maps", maps, (len(images), 28, 28))
    scale = 2 * maps.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    colored = torch.from_numpy(colormaps["PRGn"]((0.5 + maps / scale).numpy())[..., :3])
    tiles = torch.cat([_grey(images), torch.ones(len(images), 28, 1, 3), colored], dim=2)
    captions = _captions(labels, probabilities, losses)
    figure, corners = _draw_digits(tiles, *captions, bottom=1.5 * LINE)
    for (y, x), image in zip(corners, images[:, 0].numpy(), strict=True):
        across, down = range(x + 29, x + 57), range(y, y + 28)
        figure.axes[0].contour(across, down, image, [0.5], colors="black", linewidths=0.4)
    width, height = figure.get_size_inches()
    bar = figure.add_axes((0.5 - 0.4 / width, 0.5 * LINE / height, 0.8 / width, LINE / height))
    bar.imshow([[i / 99 for i in range(100)]], cmap="PRGn", aspect="auto")
    bar.set(xticks=[], yticks=[])
    bar.text(-5, 0, "opposes the prediction", ha="right", va="center")
    bar.text(104, 0, "supports it", ha="left", va="center")
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


def add_legend(figure: Figure, text: str) -> None:
    """Write the names of the classes below a figure, which grows by two lines."""
    width, height = figure.get_size_inches()
    grown = height + 3 * LINE
    figure.set_size_inches(width, grown)
    for axes in figure.axes:
        left, bottom, across, up = axes.get_position().bounds
        axes.set_position((left, 1 - (1 - bottom) * height / grown, across, up * height / grown))
    halves = text.split(", ")
    lines = [", ".join(halves[:5]) + ",", ", ".join(halves[5:])]
    figure.text(0.5, 1.4 * LINE / grown, "\n".join(lines), ha="center", va="center", fontsize=SMALL)


def _expect(name: str, tensor: Tensor, shape: tuple[int | str, ...]) -> None:
    fits = tensor.dim() == len(shape) and all(
        size > 0 if isinstance(wanted, str) else size == wanted
        for size, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits:
        wanted = str(shape).replace("'", "")
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}, not {wanted}, or is empty.")


def _figure(
    figure: Figure | None = None,
    width: float = WIDTH,
    height: float = HEIGHT,
    *,
    left: float = 0,
    bottom: float = 0,
    top: float = 0,
) -> tuple[Figure, Axes]:
    # Margins in inches: matplotlib's own layouts draw a figure twice.
    figure = figure or Figure((width, height))
    right = 0.15 if left else 0
    across, up = (width - left - right) / width, (height - bottom - top) / height
    axes = figure.add_axes((left / width, bottom / height, across, up))
    axes.tick_params(labelsize=SMALL, length=2, width=0.5, pad=2)
    return figure, axes


def _grey(images: Tensor) -> Tensor:
    # (n, 1, 28, 28) -> (n, 28, 28, 3)
    return images.detach().cpu().float().clamp(0, 1)[:, 0, ..., None].expand(-1, -1, -1, 3)


def _captions(
    labels: Tensor, probabilities: Tensor | None, losses: Tensor | None
) -> tuple[str, list[list[str]], list[str]]:
    """Return the legend of the captions of digits, the lines of each caption, and their colors."""
    legend, captions = "label", [[str(label)] for label in labels.tolist()]
    colors = ["black"] * len(captions)
    if probabilities is not None:
        legend += " → prediction, its probability"
        for place, (share, digit) in enumerate(zip(*probabilities.max(dim=1), strict=True)):
            right = digit == labels[place]
            colors[place], sign = (BLUE, CHECK) if right else (VERMILION, CROSS)
            captions[place] = [f"{sign} {labels[place]}→{digit}", f"{share:.1%}"]
    if losses is not None:
        legend += ", loss"
        for caption, loss in zip(captions, losses.tolist(), strict=True):
            caption.append(f"{loss:{'.2f' if loss < 1000 else '.0e'}}")
    return legend, captions, colors


def _draw_digits(
    tiles: Tensor, legend: str, captions: list[list[str]], colors: list[str], bottom: float = 0
) -> tuple[Figure, list[tuple[int, int]]]:
    """Draw framed tiles, each with the first line of its caption above and the others below.

    Args:
        tiles: ``(n, 28, w, 3)`` in [0, 1].
        legend: What the captions are.
        captions: The lines of each tile's caption.
        colors: Of the tiles' frames and captions.
        bottom: Height of the free space below, in inches.

    Returns:
        The figure, and the row and column of each tile's first pixel in it.
    """
    count, _, width, _ = tiles.shape
    cell = width + 7  # with frame and gap
    columns = min(count, round(2 * math.sqrt(count) * 35 / cell))
    rows = math.ceil(count / columns)
    inch = min(80, columns * cell / WIDTH)  # tile pixels per inch; a few tiles are drawn larger
    line = math.ceil(LINE * inch)
    row = line * len(captions[0]) + 28 + 7
    height = row * rows / inch + LINE + bottom
    figure, axes = _figure(None, cell * columns / inch, height, top=LINE, bottom=bottom)
    figure.text(0.5, 1 - LINE / 2 / height, legend, **CENTERED)
    canvas = torch.ones(row * rows, cell * columns, 4)  # RGBA is drawn faster than RGB
    corners = [(line + 1 + row * (i // columns), 3 + cell * (i % columns)) for i in range(count)]
    for (y, x), tile, lines, color in zip(corners, tiles, captions, colors, strict=True):
        canvas[y - 1 : y + 29, x - 1 : x + width + 1] = torch.tensor(to_rgba(color))
        canvas[y : y + 28, x : x + width, :3] = tile
        places = [y - 1.5 - line / 2, *(y + 28.5 + line * (i + 0.5) for i in range(len(lines)))]
        for place, text in zip(places, lines, strict=False):
            axes.text(x + (width - 1) / 2, place, text, color=color, **CENTERED)
    axes.imshow(canvas.numpy(), interpolation="nearest")
    axes.set_axis_off()
    return figure, corners


def _draw_reliability(
    above: Axes, below: Axes, confidence: Tensor, prediction: Tensor, labels: Tensor, bins: int
) -> None:
    edges = torch.linspace(0, 1, bins + 1)
    which = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=bins - 1)
    images = which.bincount(minlength=bins)
    accuracy = which.bincount(prediction.eq(labels), minlength=bins) / images  # nan where empty
    mean = which.bincount(confidence, minlength=bins) / images
    above.stairs(accuracy, edges, fill=True, color=BLUE, alpha=0.4, label="accuracy")
    diagonal: dict[str, Any] = {"color": "grey", "linestyle": "--", "linewidth": 1}
    above.plot([0, 1], [0, 1], label="perfectly calibrated", **diagonal)
    ends = mean.numpy(), mean.numpy(), accuracy.numpy()
    above.vlines(*ends, color=VERMILION, linewidth=2, label="gap")
    above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1), xticks=[])
    above.yaxis.set_major_formatter("{x:.0%}")
    outside: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 0.97)}
    above.legend(ncols=3, frameon=False, borderpad=0, **outside)
    below.stairs(images, edges, fill=True, color="grey")
    below.set_yscale("symlog")
    ticks = [10**power for power in range(0, len(str(2 * len(labels))), 2)]
    below.set_yticks(ticks, labels=[f"{tick:,}" for tick in ticks])
    below.set(ylim=(0, 2 * len(labels)), xlim=(0, 1))
    below.xaxis.set_major_formatter("{x:.0%}")
    below.set_xlabel("confidence: probability of the predicted digit", labelpad=1)
    below.set_ylabel("images")
    for axes in (above, below):
        axes.yaxis.set_label_coords(-0.17, 0.5)


def _draw_grid(axes: Axes, tiles: Tensor, **look: Any) -> AxesImage:
    # (n, 1, h, w) -> (rows * (h + 1) + 1, columns * (w + 1) + 1), gaps are NaN: grey
    tiles = tiles.detach().cpu().float()
    columns = math.ceil(math.sqrt(len(tiles) * WIDTH / HEIGHT))
    grid = make_grid(tiles, nrow=columns, padding=1, pad_value=torch.nan)[0]
    axes.set(xticks=[], yticks=[], facecolor="lightgrey")
    axes.spines[:].set_visible(False)
    return axes.imshow(grid.numpy(), interpolation="nearest", **look)
