"""The figures of a study: what they show."""

import optuna
import pytest

from mnist_lit.sweep.figures import count, figures


def study_of(trials: int) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def loss(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", 1e-3, 1e-1, log=True)
        trial.suggest_categorical("batch_size", ["32", "64"])
        return 0.1 + lr

    study.optimize(loss, n_trials=trials)
    return study


def test_history_slices_and_importance_have_the_names_and_the_best_loss() -> None:
    study = study_of(3)
    drawn = {}
    for name, figure in figures(study):
        figure.canvas.draw()
        drawn[name] = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    assert [*drawn] == ["history", "slices", "importance"]
    best = f"lowest validation loss {study.best_value:.4f}"
    assert drawn["history"][0].get_title() == f"3 trials, {best}"
    assert {axes.get_xlabel() for axes in drawn["slices"]} == {"lr", "batch_size"}
    assert drawn["slices"][0].get_ylabel() == "validation loss"


@pytest.mark.parametrize(("trials", "caution"), [(3, ": a rough estimate from 3 trials"), (20, "")])
def test_importances_of_few_trials_are_marked_as_rough(trials: int, caution: str) -> None:
    for name, figure in figures(study_of(trials)):
        if name == "importance":
            assert figure.axes[0].get_title("left") == ""
            assert figure.axes[0].get_title() == f"Importance of the parameters{caution}"


def test_one_trial_has_no_importances() -> None:
    assert [name for name, _ in figures(study_of(1))] == ["history", "slices"]
    assert (count(1), count(2)) == ("1 trial", "2 trials")
