"""A study that several workers share, some of them killed; without trainings, which take time."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from mnist_lit.errors import InputError
from mnist_lit.sweep.plan import Plan, read_plan
from mnist_lit.sweep.study import DONE, RETRIES, Study, failure, quiet
from tests.support.studies import POSTGRES, new_database
from tests.support.waiting import wait_until

AS_IF = pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # asked without optimize
ROOT = Path(__file__).parents[2]
GRID = """
space:
  data.batch_size: {choices: [1, 2, 4]}
  seed_everything: {choices: [0, 1, 2, 3]}
sampler: {name: GridSampler}
heartbeat: 2
"""


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quiet()


@pytest.fixture(params=["sqlite", POSTGRES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, without tables."""
    return new_database(request.param, tmp_path)


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.yaml"
    path.write_text(GRID)
    return path


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(url: str, space: Path) -> Iterator[Start]:
    """Start a worker, whose trials take some seconds; it prints their numbers as they begin."""
    workers = []

    def begin(seconds: float = 0.1) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.support.studies", url, str(space), str(seconds)]
        pipe = subprocess.PIPE
        worker = subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        worker.kill()
        worker.communicate()


def first_line(worker: subprocess.Popen[str]) -> str:
    """Wait for what a worker prints first."""
    assert worker.stdout
    return worker.stdout.readline()


def assert_complete(url: str, plan: Plan, lost: int = 0) -> None:
    """Each point of the grid is complete once, and nothing else counts, waits or runs."""
    with closing(Study(url, "study", plan, None)) as study:
        trials = study.study.get_trials()
        complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        assert sorted(map(values, complete)) == sorted(
            tuple(p.values()) for p in study.grid.values()
        )
        assert study.counted() == complete
        left = [trial for trial in trials if trial.state != TrialState.COMPLETE]
        assert {trial.state for trial in left} <= {TrialState.FAIL}
        assert len(left) >= lost  # on a busy machine a worker may not be heard of in time


def has_done(study: Study, count: int) -> bool:
    return len(study.counted(*DONE)) >= count


def values(trial: Any) -> tuple[Any, ...]:
    return tuple(trial.params[key] for key in ("data.batch_size", "seed_everything"))


def test_a_killed_worker_loses_only_its_trial_which_another_does(
    url: str, space: Path, start: Start
) -> None:
    victim = start(1000)
    assert first_line(victim) == "0\n"
    others = [start() for _ in range(3)]  # test_sweep.py has one
    assert first_line(others[0])
    victim.kill()
    for worker in others:
        _, err = worker.communicate(timeout=100)
        assert (worker.returncode, err) == (0, "")
    assert_complete(url, read_plan(space), lost=1)


@pytest.mark.slow
def test_a_worker_whose_heartbeats_stopped_leaves_its_trial_to_another(
    url: str, space: Path, start: Start
) -> None:
    paused = start(1)
    assert first_line(paused)
    paused.send_signal(signal.SIGSTOP)
    other = start()
    assert other.communicate(timeout=100)[1] == ""
    paused.send_signal(signal.SIGCONT)
    assert "Cannot tell a FAIL trial" in paused.communicate(timeout=100)[1]
    assert_complete(url, read_plan(space), lost=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_kills_at_random_moments_lose_nothing(
    url: str, space: Path, start: Start, seed: int
) -> None:
    moments = random.Random(seed)
    workers = [start(0.3) for _ in range(4)]
    with closing(Study(url, "study", read_plan(space), None)) as study:
        for kills in range(8):
            wait_until(partial(has_done, study, kills))
            victim = workers.pop(moments.randrange(4))
            first_line(victim)
            time.sleep(moments.uniform(0, 1))
            victim.kill()
            workers.append(start(0.3))
    for worker in workers:
        _, err = worker.communicate(timeout=200)
        assert (worker.returncode, err) == (0, "")
    assert_complete(url, read_plan(space))


@pytest.mark.parametrize("url", [POSTGRES], indirect=True)  # on SQLite a lock goes before all
def test_workers_that_begin_an_empty_database_at_once(url: Any, space: Path, start: Start) -> None:
    workers = [start() for _ in range(4)]
    for worker in workers:
        _, err = worker.communicate(timeout=100)
        assert (worker.returncode, err) == (0, "")
    assert_complete(url, read_plan(space))


@AS_IF
def test_a_trial_whose_workers_were_killed_four_times_counts_as_failed(
    url: str, space: Path
) -> None:
    with closing(Study(url, "study", read_plan(space), 1)) as study:
        for _ in range(RETRIES + 1):
            assert study.has_work()
            trial = study.study.ask(study.plan.space)
            failed = study.study.tell(trial, state=TrialState.FAIL)  # as if its heartbeats stopped
            retry = study.storage.heartbeat_stale_trial_callback
            assert retry
            retry(study.study, failed)
        [failed] = study.counted()
        assert failure(failed) == "its worker was killed 4 times"
        assert not study.has_work()


@AS_IF
def test_trials_that_two_workers_queue_at_once_count_once(url: str, space: Path) -> None:
    with closing(Study(url, "study", read_plan(space), 3)) as study:
        assert study.has_work()
        for params in [*study.grid.values()][:3]:  # as another worker does at the same time
            study.enqueue(params)
        assert [trial.number for trial in study.counted()] == [0, 1, 2]
        assert study.needs(2)
        assert not study.needs(3)
        for trial in [study.study.ask(study.plan.space) for _ in range(3)]:
            study.study.tell(trial, 1.0)
        assert len(study.counted(*DONE)) == 3


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("nonsense", "Could not parse"),
        ("redis://localhost", "Can't load plugin"),
        ("sqlite://", "in memory"),
        ("sqlite:////proc/none/study.db", "No such file"),
        ("postgresql+psycopg://user:secret@127.0.0.1:1/study", "Connection refused"),
    ],
)
def test_a_database_that_cannot_be_opened(space: Path, url: str, what: str) -> None:
    with pytest.raises(InputError, match=r"^The database cannot be opened: ") as error:
        Study(url, "study", read_plan(space), 1)
    assert what in str(error.value)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 2
