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
    title = f"{count(len(study.trials))}, lowest validation loss {study.best_value:.4f}"
    plots: list[tuple[str, Any, str]] = [
        ("history", draw.plot_optimization_history, title),
        ("slices", draw.plot_slice, ""),
    ]
    if len(complete) > 1 and len(complete[0].params) > 1:
        caution = f": a rough estimate from {count(len(complete))}" if len(complete) < FEW else ""
        title = f"Importance of the parameters{caution}"
        plots.append(("importance", draw.plot_param_importances, title))
    for name, plot, title in plots:
        # Optuna sets a style of its own for the process.
        with plt.rc_context({"figure.constrained_layout.use": True}), catch_warnings():
            simplefilter("ignore")  # the functions are experimental; importances may all be equal
            panels = np.atleast_1d(plot(study, target_name="validation loss"))
            for axes in panels:
                axes.set_title("", loc="left")  # where Optuna puts some
                axes.set_title(title)
                axes.xaxis.set_minor_locator(NullLocator())
                axes.tick_params(axis="x", rotation=20)
                if axes.get_legend():
                    axes.legend()
            figure = panels[0].figure
            figure.set_size_inches(max(8, 3.2 * len(panels)), 4.5)
            yield name, figure
            plt.close(figure)


def count(trials: int) -> str:
    """A number of trials in words."""
    return f"{trials} trial{'s' * (trials != 1)}"
