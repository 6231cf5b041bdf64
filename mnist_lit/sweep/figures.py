"""Pictures of a sweep: trials and their validation losses in, matplotlib figures out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from mnist_lit.show.figures import BLUE, SMALL, VERMILION

WIDE = 5  # the largest loss over the smallest, from where on an axis is logarithmic
DECADE = 10
COLUMNS = 4  # slices beside each other
LABEL, LINE = 16, 24  # characters of a choice below a slice, and of all beside each other


def history_figure(
    complete: Mapping[int, float], pruned: Mapping[int, float], failed: Sequence[int]
) -> Figure:
    """Draw the trials of a sweep one after the other, and the best so far.

    Args:
        complete: The lowest validation loss of each complete trial, in nats, by its number.
        pruned: The last validation loss of each pruned trial.
        failed: The numbers of the others.
    """
    figure = Figure((8, 4.5), layout="constrained")
    axes = figure.subplots()
    best, steps = math.inf, {}
    for number in sorted(complete):
        best = steps[number] = min(best, complete[number])
    numbers = [*complete, *pruned, *failed]
    steps[max(numbers)] = best
    axes.step([*steps], [*steps.values()], where="post", color=BLUE, label="best so far")
    axes.scatter([*complete], [*complete.values()], color=BLUE, alpha=0.5, label="complete")
    if pruned:
        look: dict[str, Any] = {"facecolor": "none", "edgecolor": "grey", "label": "pruned"}
        axes.scatter([*pruned], [*pruned.values()], **look)
    _scale_losses(axes, [*complete.values(), *pruned.values()])
    if failed:
        look = {"color": VERMILION, "marker": "x", "clip_on": False, "label": "failed"}
        axes.scatter(failed, [0] * len(failed), transform=axes.get_xaxis_transform(), **look)
    axes.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel="validation loss")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False)
    figure.suptitle(f"{len(complete) + len(pruned) + len(failed)} trials, the best with {best:.4f}")
    _tidy(axes)
    return figure


def importance_figure(shares: Mapping[str, float]) -> Figure:
    """Draw how much of the spread of the losses each parameter explains.

    Args:
        shares: By parameter, with a sum of 1.
    """
    figure = Figure((8, 1.3 + 0.4 * len(shares)), layout="constrained")
    axes = figure.subplots()
    names = sorted(shares, key=shares.__getitem__)
    bars = axes.barh(names, [shares[name] for name in names], color=BLUE, alpha=0.7)
    axes.bar_label(bars, [f"{shares[name]:.0%}" for name in names], padding=4, fontsize=SMALL)
    axes.set(xlim=(0, 1.1 * max(shares.values())), xticks=[], title="Importance of the parameters")
    axes.tick_params(left=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def slices_figure(
    scales: Mapping[str, str | Sequence[str]],
    params: Sequence[Mapping[str, Any]],
    losses: Sequence[float],
) -> Figure:
    """Draw the loss against each parameter: the darker, the later; the best trial ringed.

    Args:
        scales: Of each parameter ``linear``, ``log`` or its choices.
        params: Of each trial, the oldest first; for choices, one of them.
        losses: Of each trial, in nats.
    """
    rows = math.ceil(len(scales) / COLUMNS)
    columns = math.ceil(len(scales) / rows)
    figure = Figure((max(5, 3 * columns), 0.5 + 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    best = min(range(len(losses)), key=losses.__getitem__)
    for axes, (name, scale) in zip(grid.flat, scales.items(), strict=False):
        values = [each[name] for each in params]
        if not isinstance(scale, str):
            places = _beside(values, scale)
            labels = [_cut(choice) for choice in scale]
            long = {"rotation": 20, "ha": "right"} if len("".join(labels)) > LINE else {}
            axes.set_xticks(range(len(scale)), labels, **long)
            axes.set_xlim(-0.6, len(scale) - 0.4)
        else:
            places = values
            axes.set_xscale(scale)
            if scale == "log":
                _mark_few(axes.xaxis, max(values) / min(values))
        order = range(len(losses))
        axes.scatter(places, losses, c=order, cmap="Blues", vmin=-len(losses), edgecolor="white")
        axes.scatter(places[best], losses[best], s=90, facecolor="none", edgecolor=VERMILION)
        axes.set_xlabel(name)
        _tidy(axes)
    for axes in grid.flat[len(scales) :]:
        axes.set_visible(False)
    _scale_losses(grid[0, 0], losses)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation loss")
    figure.suptitle("Complete trials: the darker, the later; the best is ringed")
    return figure


def _beside(values: Sequence[str], choices: Sequence[str]) -> list[float]:
    """Places around that of the choice, so that equal values stand beside each other."""
    places = []
    for index, value in enumerate(values):
        before = values[:index].count(value)
        aside = (0.5 + 0.618 * before) % 1 - 0.5  # the golden section spreads any number evenly
        places.append(choices.index(value) + 0.6 * aside)
    return places


def _mark_few(axis: Axis, ratio: float) -> None:
    """Put so many numbers at a logarithmic axis as find room; the ratio is largest by smallest."""
    if ratio < DECADE:
        axis.set_major_locator(MaxNLocator(4))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 3) if ratio < 30 * DECADE else (1,)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda tick, _: f"{tick:g}")


def _cut(text: str) -> str:
    return text if len(text) <= LABEL else f"{text[: LABEL - 3]}..."


def _scale_losses(axes: Axes, losses: Sequence[float]) -> None:
    if max(losses) > WIDE * min(losses) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(lambda tick, _: f"{tick:g}")


def _tidy(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
