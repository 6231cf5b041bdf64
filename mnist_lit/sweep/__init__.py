"""Hyperparameter search over any setting of ``fit``, on Optuna."""

from importlib.util import find_spec

from mnist_lit.errors import InputError

if find_spec("optuna") is None:
    raise InputError(
        "Sweeps need Optuna, which is not installed.",
        "In the project's directory: pip install '.[sweep]'",
    )
