"""A search over any settings, by one worker or many, on Optuna."""

from importlib.util import find_spec

from mnist_lit.errors import InputError

if find_spec("optuna") is None:
    raise InputError(
        "Sweeps need Optuna, which is not installed.",
        "In the project's directory: pip install '.[sweep]'",
    )
