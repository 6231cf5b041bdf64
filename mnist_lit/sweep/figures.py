"""The figures of a study, as Optuna draws them with matplotlib."""

from collections.abc import Iterator
from typing import Any
from warnings import catch_warnings, simplefilter

import matplotlib.pyplot as plt
import numpy as np
import optuna.visualization.matplotlib as draw
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from optuna import Study
from optuna.trial import TrialState

FEW = 20  # complete trials, below which importances are marked as rough


def figures(study: Study) -> Iterator[tuple[str, Figure]]:
    """Draw the history, the slices and, of several parameters, their importance.

    Args:
        study: With at least one complete trial.

    Yields:
        The name of each figure, and the figure, which is closed afterwards.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    label = {"target_name": "validation loss"}
    title = f"{count(len(study.trials))}, lowest validation loss {study.best_value:.4f}"
    yield from _drawn("history", draw.plot_optimization_history, study, title, **label)
    yield from _drawn("slices", draw.plot_slice, study, "", **label)
    if len(complete) > 1 and len(complete[0].params) > 1:
        caution = f": a rough estimate from {count(len(complete))}" if len(complete) < FEW else ""
        title = f"Importance of the parameters{caution}"
        yield from _drawn("importance", draw.plot_param_importances, study, title, **label)


def count(trials: int) -> str:
    """A number of trials in words."""
    return f"{trials} trial{'s' * (trials != 1)}"


def _drawn(
    name: str, plot: Any, study: Study, title: str, **options: Any
) -> Iterator[tuple[str, Figure]]:
    # Optuna sets a style of its own for the process.
    with plt.rc_context({"figure.constrained_layout.use": True}), catch_warnings():
        simplefilter("ignore")  # the functions are experimental; importances may all be equal
        axes = np.atleast_1d(plot(study, **options))
        figure: Figure = axes[0].figure
        figure.set_size_inches(max(8, 3.2 * len(axes)), 4.5)
        for each in axes:
            each.set_title("", loc="left")  # where Optuna puts some
            each.set_title(title)
            each.xaxis.set_minor_locator(NullLocator())
            each.tick_params(axis="x", rotation=20)
            if each.get_legend():
                each.legend()
        yield name, figure
        plt.close(figure)
