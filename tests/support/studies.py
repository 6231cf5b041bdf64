"""Databases for studies, and a worker without trainings, so that tests can kill many of them."""

import os
import sys
import time
import uuid
from pathlib import Path

import pytest
from optuna.trial import Trial

from mnist_lit.sweep.plan import read_plan
from mnist_lit.sweep.study import Study, quiet

SERVER = os.environ.get("MNIST_LIT_POSTGRES", "")
POSTGRES = pytest.param(
    "postgres",
    marks=[
        pytest.mark.postgres,
        pytest.mark.skipif(not SERVER, reason="MNIST_LIT_POSTGRES names no server"),
    ],
)


def new_database(kind: str, directory: Path) -> str:
    """The URL of a database without tables, in a file or on the server."""
    if kind == "sqlite":
        return f"sqlite:///{directory / 'study.db'}"
    import psycopg

    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(SERVER.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{SERVER.rpartition('/')[0]}/{name}"


class SkippedError(Exception):
    """Another worker has queued the same trial."""


if __name__ == "__main__":  # without the objective of the sweep, which imports torch
    quiet()
    url, space, seconds = sys.argv[1:]
    study = Study(url, "study", read_plan(Path(space)), None)

    def objective(trial: Trial) -> float:
        """Print the trial's number, and take some seconds."""
        params = study.plan.suggest(trial)
        if not study.needs(trial.number):
            raise SkippedError
        print(trial.number, flush=True)
        time.sleep(float(seconds))
        trial.set_user_attr("trained", True)
        return float(params["data.batch_size"])

    while study.has_work():
        study.study.optimize(objective, n_trials=1, catch=(SkippedError,))
    study.close()
