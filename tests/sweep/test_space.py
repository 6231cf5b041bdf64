"""The file of a sweep: what it may say, and what is said of what it may not."""

from pathlib import Path
from typing import Any, cast

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler

from mnist_lit.errors import InputError
from mnist_lit.sweep.plan import Plan, override, read_plan
from mnist_lit.sweep.settings import check_space, settings_of
from tests.conftest import CONFIGS

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LR = "space:\n  model.optimizer.lr: "
GRID = "space:\n  data.batch_size: {choices: [32, 64]}\n  seed_everything: {choices: [0, 1, 2]}\n"


def plan_of(text: str, tmp_path: Path) -> Plan:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_plan(path)


@pytest.mark.parametrize(
    ("text", "distribution"),
    [
        ("{low: 0.001, high: 0.1, log: true}", FloatDistribution(0.001, 0.1, log=True)),
        ("{low: 1e-3, high: 1e-1}", FloatDistribution(0.001, 0.1)),  # YAML takes them for text
        ("{low: 0, high: 0.5, step: 0.25}", FloatDistribution(0, 0.5, step=0.25)),
        ("{low: 1, high: 9, step: 2}", IntDistribution(1, 9, step=2)),
        ("{low: 1, high: 10, step: 2}", IntDistribution(1, 9, step=2)),
        ("{low: 1, high: 100, log: true}", IntDistribution(1, 100, log=True)),
        ("{choices: [true, null, 3, x.Y]}", CategoricalDistribution([True, None, 3, "x.Y"])),
        ("{choices: [[0.9, 0.99], {a: 1}]}", CategoricalDistribution(["[0.9, 0.99]", '{"a": 1}'])),
    ],
)
def test_a_range_or_choices(tmp_path: Path, text: str, distribution: Any) -> None:
    assert plan_of(LR + text, tmp_path).space == {"model.optimizer.lr": distribution}


def test_without_a_word_about_them_sampler_and_pruner_are_optunas_default_and_none(
    tmp_path: Path,
) -> None:
    plan = plan_of(GRID, tmp_path)
    assert type(plan.make_sampler(0)).__name__ == "TPESampler"
    assert type(plan.pruner).__name__ == "NopPruner"
    assert plan.grid == []


def test_a_grid_is_every_combination(tmp_path: Path) -> None:
    points = plan_of(GRID + "sampler: {name: GridSampler}", tmp_path).grid
    expected = [(size, seed) for size in (32, 64) for seed in (0, 1, 2)]
    assert [tuple(point.values()) for point in points] == expected


@pytest.mark.parametrize(
    ("text", "what", "what_to_do"),
    [
        ("- 1", "The file must be a non-empty mapping.", "See configs/sweep.yaml."),
        ("space: [", "cannot be read: while parsing", "Give a YAML file."),
        (
            "sampler: {name: TPESampler}",
            "space must be a non-empty mapping.",
            "configs/sweep.yaml",
        ),
        ("spaces: {}", "There is no section spaces.", "Did you mean space?"),
        (LR + "0.1", "model.optimizer.lr must be a non-empty mapping.", "configs/sweep.yaml"),
        (LR + "{lo: 1, high: 2}", "There is no field of model.optimizer.lr: lo.", "mean low?"),
        (
            LR + "{low: 1}",
            "model.optimizer.lr: missing 1 required positional argument: 'high'",
            "docs",
        ),
        (LR + "{low: 2, high: 1}", "model.optimizer.lr: low <= high must hold", "docs/sweep.md"),
        (
            LR + "{low: 0, high: 1, log: true}",
            "model.optimizer.lr: low >= 1 must hold",
            "docs/sweep.md",
        ),
        (
            LR + "{low: 0.0, high: 1, log: true}",
            "model.optimizer.lr: low > 0 must hold",
            "docs/sweep.md",
        ),
        (
            LR + "{low: 1, high: 2, step: 0}",
            "model.optimizer.lr: step > 0 must hold",
            "docs/sweep.md",
        ),
        (
            LR + "{low: 1, high: 2, step: 2, log: true}",
            "only accept step is 1 when log",
            "",
        ),
        (LR + "{low: a, high: 1}", "could not convert string to float: 'a'", "docs"),
        (LR + "{low: .nan, high: 1}", "TPESampler cannot search this space", "Change the space"),
        (LR + "{choices: []}", "must contain one or more", "docs"),
        (LR + "{choices: 3}", "'int' object is not iterable", "docs"),
        (LR + "{choices: [1], low: 1}", "got an unexpected keyword argument 'low'", "docs"),
        ("space: {name: {choices: [a, b]}}", "name cannot be searched.", "not affect"),
        (GRID + "sampler: {name: TPESampl}", "There is no sampler TPESampl.", "mean TPESampler?"),
        (GRID + "sampler: {name: BaseSampler}", "There is no sampler BaseSampler.", "mean"),
        (GRID + "sampler: {sed: 1}", "There is no argument of TPESampler: sed.", "mean seed?"),
        (GRID + "sampler: {seed: one}", "The sampler's seed is not an integer.", "seed: 0"),
        (GRID + "sampler: {name: GridSampler, n: 1}", "There is no argument of GridSampler: n", ""),
        (
            LR + "{low: 0, high: 1}\nsampler: {name: GridSampler}",
            "GridSampler needs choices, but model.optimizer.lr has a range.",
            "List choices.",
        ),
        (
            LR + "{low: 0.0, high: 1}\nsampler: {name: BruteForceSampler}",
            "BruteForceSampler cannot search this space: ",
            "Change the space",
        ),
        (
            GRID + "pruner: {name: Median}",
            "There is no pruner Median.",
            "Did you mean MedianPruner",
        ),
        (GRID + "pruner: {name: PatientPruner}", "PatientPruner cannot be created: ", "another"),
        (
            GRID + "pruner: {name: MedianPruner, n_startup_trials: -1}",
            "MedianPruner cannot be created: ",
            "Fix its arguments",
        ),
        (GRID + "heartbeat: 0", "heartbeat is 0.", "whole seconds"),
    ],
)
def test_a_mistake_is_one_line_what_and_one_line_what_to_do(
    tmp_path: Path, text: str, what: str, what_to_do: str
) -> None:
    with pytest.raises(InputError) as error:
        plan_of(text, tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(str(tmp_path / "space.yaml"))
    assert what in first
    assert what_to_do in second


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_plan(tmp_path / "gone.yaml")


def test_the_users_own_settings_are_found_in_the_space(tmp_path: Path) -> None:
    space = """
    space:
      model.network: {choices: [mnist_lit.networks.StrongCNN, mnist_lit.networks.TutorialCNN]}
      model.optimizer.betas: {choices: [[0.8, 0.99], [0.9, 0.999]]}
      model.scheduler:
        choices: [null, {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 1}}]
      trainer.max_epochs: {low: 3, high: 12}
    """
    plan = plan_of(space, tmp_path)
    fit = [f"--config={CONFIGS / 'default.yaml'}", "--seed_everything=0"]
    given = check_space(plan.space, fit, settings_of(fit))
    assert given == {
        "model.network": "mnist_lit.networks.TutorialCNN",
        "model.optimizer.betas": "[0.9, 0.999]",
        "model.scheduler": None,
        "trainer.max_epochs": 10,
    }
    schedulers: Any = plan.space["model.scheduler"]
    step = schedulers.choices[1]
    other = [*fit, f"--model.scheduler={step}", "--trainer.max_epochs=20"]
    found = check_space(plan.space, other, settings_of(other))
    assert found == {**{key: given[key] for key in [*given][:2]}, "model.scheduler": step}


def test_a_sampler_draws_for_each_trial_anew_and_for_the_same_trial_the_same(
    tmp_path: Path,
) -> None:
    plan = plan_of(GRID + "sampler: {name: RandomSampler, seed: 5}", tmp_path)
    space, nothing = FloatDistribution(0, 1), cast(Any, None)
    one, same, next_one = (
        plan.make_sampler(number).sample_independent(nothing, nothing, "x", space)
        for number in (3, 3, 4)
    )
    assert one == same != next_one


@pytest.mark.parametrize(
    ("value", "option"),
    [(1e-05, "1e-05"), (64, "64"), (True, "true"), (None, "null"), ("x.Y", "x.Y")],
)
def test_a_parameter_is_an_option_of_fit(value: float | bool | str | None, option: str) -> None:
    assert override("model.network", value) == f"--model.network={option}"


def test_the_configuration_of_the_package_is_sound() -> None:
    plan = read_plan(CONFIGS / "sweep.yaml")
    assert len(plan.space) > 2
    assert plan.sampler.func is TPESampler
