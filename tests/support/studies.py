"""Databases for studies, and a worker without trainings, so that tests can kill many of them."""

import os
import sys
import time
import uuid
from pathlib import Path

import pytest
from optuna.trial import TrialState

from mnist_lit.sweep.space import read_plan
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


if __name__ == "__main__":
    quiet()
    url, space, seconds = sys.argv[1:]
    study = Study(url, "study", read_plan(Path(space)), None)
    while trial := study.claim():
        with study.alive(trial):
            print(trial.number, flush=True)
            time.sleep(float(seconds))
            study.end(trial, TrialState.COMPLETE, trial.params["data.batch_size"])
    study.close()
