"""The file of a sweep: what it may say, and what is said of what it may not."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mnist_lit.errors import InputError
from mnist_lit.sweep.space import override, read_plan
from tests.conftest import CONFIGS

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

LR = "space:\n  model.optimizer.lr: "
GRID = "space:\n  data.batch_size: {choices: [32, 64]}\n  seed_everything: {choices: [0, 1, 2]}\n"


def plan_of(text: str, tmp_path: Path):
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
def test_a_range_or_choices(tmp_path, text, distribution):
    assert plan_of(LR + text, tmp_path).space == {"model.optimizer.lr": distribution}


def test_without_a_word_about_them_sampler_and_pruner_are_optunas_default_and_none(tmp_path):
    plan = plan_of(GRID, tmp_path)
    assert type(plan.make_sampler(0)).__name__ == "TPESampler"
    assert type(plan.make_pruner()).__name__ == "NopPruner"
    assert plan.grid() is None


def test_a_grid_is_every_combination(tmp_path):
    points = plan_of(GRID + "sampler: {name: GridSampler}", tmp_path).grid()
    expected = [(size, seed) for size in (32, 64) for seed in (0, 1, 2)]
    assert [tuple(point.values()) for point in points] == expected


@pytest.mark.parametrize(
    ("text", "what", "what_to_do"),
    [
        ("- 1", "The file is no mapping, or empty.", "configs/sweep.yaml is an example."),
        ("space: [", "cannot be read: while parsing", "Give a YAML file."),
        ("sampler: {name: TPESampler}", "space is no mapping, or empty.", "configs/sweep.yaml"),
        ("spaces: {}", "There is no section spaces.", "Did you mean space?"),
        (LR + "0.1", "model.optimizer.lr is no mapping, or empty.", "configs/sweep.yaml"),
        (LR + "{lo: 1, high: 2}", "There is no field of model.optimizer.lr: lo.", "mean low?"),
        (LR + "{low: 1}", "model.optimizer.lr has neither choices nor low and high.", "Give"),
        (LR + "{low: 2, high: 1}", "model.optimizer.lr: low <= high must hold", "Mend low"),
        (LR + "{low: 0, high: 1, log: true}", "model.optimizer.lr: low >= 1 must hold", "Mend"),
        (LR + "{low: 0.0, high: 1, log: true}", "model.optimizer.lr: low > 0 must hold", "Mend"),
        (LR + "{low: 1, high: 2, step: 0}", "model.optimizer.lr: step > 0 must hold", "Mend"),
        (LR + "{low: 1, high: 2, step: 1, log: true}", "model.optimizer.lr has log and a step", ""),
        (LR + "{low: 1, high: 2, log: 1}", "model.optimizer.lr: log is 1.", "true or false"),
        (LR + "{low: a, high: 1}", "model.optimizer.lr: low is no number.", "1e-3"),
        (LR + "{low: .nan, high: 1}", "model.optimizer.lr: low is no number.", "1e-3"),
        (LR + "{low: true, high: 1}", "model.optimizer.lr: low is no number.", "1e-3"),
        (LR + "{choices: []}", "model.optimizer.lr: choices is no list, or empty.", "[32, 64"),
        (LR + "{choices: 3}", "model.optimizer.lr: choices is no list, or empty.", "[32, 64"),
        (LR + "{choices: [1, 1]}", "model.optimizer.lr: 1 is twice among the choices.", "Leave"),
        (LR + "{choices: [1], low: 1}", "model.optimizer.lr has choices and low.", "Leave one out"),
        ("space: {name: {choices: [a, b]}}", "name cannot be searched.", "changes nothing"),
        (GRID + "sampler: {name: TPESampl}", "There is no sampler TPESampl.", "mean TPESampler?"),
        (GRID + "sampler: {name: BaseSampler}", "There is no sampler BaseSampler.", "mean"),
        (GRID + "sampler: {sed: 1}", "There is no argument of TPESampler: sed.", "mean seed?"),
        (GRID + "sampler: {seed: one}", "The sampler's seed is 'one'.", "whole number"),
        (GRID + "sampler: {name: GridSampler, n: 1}", "There is no argument of GridSampler: n", ""),
        (
            LR + "{low: 0, high: 1}\nsampler: {name: GridSampler}",
            "GridSampler needs choices, and model.optimizer.lr has a range.",
            "Give it choices.",
        ),
        (
            LR + "{low: 0.0, high: 1}\nsampler: {name: BruteForceSampler}",
            "BruteForceSampler cannot search this space: ",
            "Mend the space",
        ),
        (
            GRID + "pruner: {name: Median}",
            "There is no pruner Median.",
            "Did you mean MedianPruner",
        ),
        (GRID + "pruner: {name: PatientPruner}", "PatientPruner cannot be made: ", "another"),
        (
            GRID + "pruner: {name: MedianPruner, n_startup_trials: -1}",
            "MedianPruner cannot be made: ",
            "Mend its arguments",
        ),
        (GRID + "heartbeat: 0", "heartbeat is 0.", "whole seconds"),
    ],
)
def test_a_mistake_is_one_line_what_and_one_line_what_to_do(tmp_path, text, what, what_to_do):
    with pytest.raises(InputError) as error:
        plan_of(text, tmp_path)
    first, second = str(error.value).splitlines()
    assert first.startswith(str(tmp_path / "space.yaml"))
    assert what in first
    assert what_to_do in second


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_plan(tmp_path / "gone.yaml")


def test_settings_are_a_point_of_the_space_if_all_lie_in_it(tmp_path):
    space = """
    space:
      model.network: {choices: [mynet.MyNet, mnist_lit.networks.TutorialCNN]}
      model.optimizer.betas: {choices: [[0.9, 0.99], [0.9, 0.999]]}
      trainer.max_epochs: {low: 3, high: 12}
    """
    plan = plan_of(space, tmp_path)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"betas": [0.9, 0.999]}}
    network = {"class_path": "mnist_lit.networks.TutorialCNN"}
    settings = {"model": {"network": network, "optimizer": adam}, "trainer": {"max_epochs": 10}}
    assert plan.point_of(settings) == {
        "model.network": "mnist_lit.networks.TutorialCNN",
        "model.optimizer.betas": "[0.9, 0.999]",
        "trainer.max_epochs": 10,
    }
    for beyond in ({"max_epochs": 20}, {"max_epochs": None}, {}):
        assert plan.point_of(settings | {"trainer": beyond}).keys() == plan.space.keys() - {
            "trainer.max_epochs"
        }


def test_a_class_with_arguments_is_chosen_already_if_those_of_the_choice_are_the_same(tmp_path):
    space = """
    space:
      model.optimizer: {choices: [torch.optim.AdamW, torch.optim.Adam]}
      model.scheduler: {choices: [null, {class_path: x.Cosine, init_args: {T_max: -1}}]}
    """
    plan = plan_of(space, tmp_path)
    adam = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.001}}
    cosine = {"class_path": "x.Cosine", "init_args": {"T_max": -1, "eta_min": 0.0}}
    for scheduler, choice in ((None, 0), (cosine, 1)):
        point = plan.point_of({"model": {"optimizer": adam, "scheduler": scheduler}})
        assert point["model.optimizer"] == "torch.optim.Adam"
        assert point["model.scheduler"] == plan.space["model.scheduler"].choices[choice]
    cosine["init_args"]["T_max"] = 10
    point = plan.point_of({"model": {"optimizer": adam, "scheduler": cosine}})
    assert "model.scheduler" not in point


def test_a_sampler_draws_for_each_trial_anew_and_for_the_same_trial_the_same(tmp_path):
    plan = plan_of(GRID + "sampler: {name: RandomSampler, seed: 5}", tmp_path)
    space = FloatDistribution(0, 1)
    one, same, next_one = (
        plan.make_sampler(number).sample_independent(None, None, "x", space) for number in (3, 3, 4)
    )
    assert one == same != next_one


@pytest.mark.parametrize(
    ("value", "option"),
    [(1e-05, "1e-05"), (64, "64"), (True, "true"), (None, "null"), ("x.Y", "x.Y")],
)
def test_a_parameter_is_an_option_of_fit(value, option):
    assert override("model.network", value) == f"--model.network={option}"


def test_the_configuration_of_the_package_is_sound():
    plan = read_plan(CONFIGS / "sweep.yaml")
    assert len(plan.space) > 2
    assert plan.sampler["name"] == "TPESampler"
