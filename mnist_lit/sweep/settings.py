"""The settings that all trials of a sweep share, and what is checked before the first trial."""

import re
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, distribution_to_json

from mnist_lit.errors import InputError
from mnist_lit.runs.comparison import option
from mnist_lit.runs.files import flat
from mnist_lit.sweep.plan import NOT_SEARCHED, contains, override
from mnist_lit.sweep.study import Study
from mnist_lit.training.environment import prepare
from mnist_lit.training.options import OptionsCLI
from mnist_lit.training.resuming import FREE_WHEN_RESUMED, changes

ONE_DEVICE = r"auto|1|\d+,|\[\d+\]"  # by number or by index


class _ParsedError(Exception):
    """Ends the command after its options are parsed."""


class _Parser(OptionsCLI):
    def parse_arguments(self, *args: Any, **kwargs: Any) -> None:
        super().parse_arguments(*args, **kwargs)
        raise _ParsedError(self.settings())


def settings_of(args: list[str]) -> dict[str, Any]:
    """All settings of ``fit`` with these options; nothing is created or run."""
    prepare()
    try:
        _Parser(["fit", *args])
    except _ParsedError as parsed:
        settings: dict[str, Any] = parsed.args[0]
        return settings
    raise AssertionError


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse settings of ``fit`` that leave no runs, or runs without a validation loss."""
    trainer, data = settings["trainer"], settings["data"]
    for wrong, what, what_to_do in (
        (settings["ckpt_path"], "Trials do not resume checkpoints.", "Leave --ckpt_path out."),
        (settings["name"], "Runs are named after the study.", "Give --study, not --name."),
        (
            trainer["fast_dev_run"] or trainer["barebones"],
            "The trials would leave no runs.",
            "Leave trainer.fast_dev_run and trainer.barebones at their defaults.",
        ),
        (
            data["val_size"] == data["folds"] == 0 or trainer["limit_val_batches"] == 0,
            "There are no validation images, which trials are scored on.",
            "Change data.val_size and trainer.limit_val_batches.",
        ),
        (
            trainer["num_nodes"] != 1 or not re.fullmatch(ONE_DEVICE, str(trainer["devices"])),
            "A trial trains on one device.",
            "Leave trainer.devices out; use --jobs, or one command for each device.",
        ),
    ):
        if wrong:
            raise InputError(what, what_to_do)


def check_space(
    space: dict[str, BaseDistribution], fit: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """Refuse keys and values that ``fit`` does not accept, alone or with others of the space.

    Args:
        space: Distributions by key.
        fit: The options of all trials.
        settings: What they give.

    Returns:
        The parameters in these settings, without those that lie outside the space.
    """
    examples = {key: _examples(each) for key, each in space.items()}
    first = [override(key, values[0]) for key, values in examples.items()]
    current = {option(key): value for key, value in flat(settings)}
    given = {}
    for key, values in examples.items():
        own = current.get(key)
        if not isinstance(own, str) and contains(space[key], own):
            given[key] = own
        for value in values:
            try:
                same = settings_of([*fit, override(key, value)]) == settings
            except InputError as error:
                same = False
                if full := [each for each in current if each.endswith(f".{key}")]:
                    raise InputError(error.args[0], f"Did you mean {full[0]}?") from error
                settings_of([*fit, *first, override(key, value)])
            if same and isinstance(value, str):  # there are several ways to write a class or JSON
                given[key] = value
    return given


def check_same(study: Study, settings: dict[str, Any], given: dict[str, Any]) -> None:
    """Refuse to resume a study with other settings or another space; a new one stores them."""
    space = {key: distribution_to_json(value) for key, value in study.plan.space.items()}
    stored = study.setup(given, settings=settings, space=space)
    hint = "Change it back, or start another study: --study NAME."
    for key in stored["space"] | space:
        if space.get(key) != stored["space"].get(key):
            raise InputError(f"The study {study.name} has another space: {key} differs.", hint)
    for key, then, now in changes(stored["settings"], settings):
        if key not in (*NOT_SEARCHED, *FREE_WHEN_RESUMED):
            what = f"{key} is {then} in the study {study.name} and {now} in your options."
            raise InputError(what, hint)


def _examples(distribution: BaseDistribution) -> list[Any]:
    """Values to try on the parser: every text, and one number of each type."""
    if not isinstance(distribution, CategoricalDistribution):
        return [distribution.low]  # type: ignore[attr-defined]
    kinds: dict[Any, Any] = {}
    for choice in distribution.choices:
        kinds.setdefault(choice if isinstance(choice, str) else type(choice), choice)
    return list(kinds.values())
