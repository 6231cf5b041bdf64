"""A study in its database, shared by any number of workers on any number of machines."""

import json
import time
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import make_url
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from mnist_lit.errors import InputError, first_line
from mnist_lit.runs.comparison import shortest
from mnist_lit.sweep.plan import Plan

RETRIES = 3  # how often a trial is retried whose worker was killed
DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
DATABASE_ERRORS = (StorageInternalError, SQLAlchemyError)


class SharedStorage(RDBStorage):
    """Optuna's storage, made safe for many workers.

    On SQLite, which has no ``SELECT ... FOR UPDATE``, a lock file keeps two workers from starting
    the same queued trial. A trial gets its first heartbeat before it starts, so that it becomes
    stale whenever its worker is killed. A failure to write a heartbeat does not stop the next ones.

    Args:
        url: The database URL, as in SQLAlchemy.
        heartbeat: Seconds between two heartbeats; after four missed ones a trial is retried.

    Attributes:
        place: The URL without its password.
    """

    def __init__(self, url: str, heartbeat: int) -> None:
        parts = make_url(url)
        self.place = parts.render_as_string(hide_password=True)
        self.lock: FileLock | nullcontext[None] = nullcontext()
        options: dict[str, Any] = {"pool_pre_ping": True}
        if parts.get_backend_name() == "sqlite":
            if parts.database in (None, "", ":memory:"):
                raise OSError("workers cannot share a database in memory")
            file = Path(str(parts.database))
            file.parent.mkdir(parents=True, exist_ok=True)
            self.lock = FileLock(f"{file}.lock")
            options = {"connect_args": {"timeout": 60}}
        with self.lock:
            super().__init__(
                url,
                options,
                heartbeat_interval=heartbeat,
                grace_period=4 * heartbeat,
                heartbeat_stale_trial_callback=_retry,
            )

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Any = None) -> bool:
        if state == TrialState.RUNNING:
            self.record_heartbeat(trial_id)
        with self.lock:
            return super().set_trial_state_values(trial_id, state, values)

    def record_heartbeat(self, trial_id: int) -> None:
        with suppress(*DATABASE_ERRORS):
            super().record_heartbeat(trial_id)


class Study:
    """A study that any number of processes may have open at the same time.

    Args:
        url: The database URL, as in SQLAlchemy.
        name: The study's name; it is created if it does not exist.
        plan: The content of the sweep file.
        trials: The total number of trials; if None, 20, or the whole grid.

    Attributes:
        goal: The total number of trials.
        headings: The shortest unambiguous end of each key of the space.

    Raises:
        InputError: If the database cannot be opened.
    """

    def __init__(self, url: str, name: str, plan: Plan, trials: int | None) -> None:
        self.name, self.plan = name, plan
        self.headings = {key: shortest(key, set(plan.space)) for key in plan.space}
        self.grid = {_point(params): params for params in plan.grid}
        size = len(self.grid)
        self.goal = min(size, trials or size) if size else trials or 20
        try:
            self.storage = _open(url, plan.heartbeat)
            self.study = optuna.create_study(
                storage=self.storage, study_name=name, pruner=plan.pruner, load_if_exists=True
            )
        except (ImportError, OSError, RuntimeError, ValueError, *DATABASE_ERRORS) as error:
            raise InputError(
                f"The database cannot be opened: {first_line(database_error(error))}",
                "--storage takes a URL such as sqlite:///x.db or postgresql+psycopg://user@host/x; "
                "PostgreSQL needs a running server and pip install 'psycopg[binary]'.",
            ) from error

    def counted(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials that count, by number; of these states, if any.

        Not counted are trials that were interrupted or have drawn no parameters, and those that two
        workers queued at the same time: others replace them.
        """
        counted: dict[str | int, FrozenTrial] = {}
        for trial in self.study.get_trials(deepcopy=False):
            point = trial.user_attrs.get("point", trial.number)
            in_grid = point in self.grid or not self.grid
            if trial.state in DONE and not self.plan.space.keys() <= trial.params.keys():
                continue
            if in_grid and (trial.state != TrialState.FAIL or failure(trial)):
                counted.setdefault(point, trial)
        return [trial for trial in counted.values() if not states or trial.state in states]

    def setup(self, given: dict[str, Any], **shared: Any) -> dict[str, Any]:
        """Unless the study has trials, store what they share, and queue the user's own settings.

        Returns:
            What is stored.
        """
        with self.storage.lock:
            if not [t for t in self.counted() if t.state != TrialState.WAITING or not self.grid]:
                for name, value in {**shared, "given": given}.items():
                    self.study.set_user_attr(name, value)
                if given.keys() == self.plan.space.keys() and not self.grid:
                    self.enqueue(given)
        return self.study.user_attrs

    def enqueue(self, params: dict[str, Any]) -> None:
        """Queue a trial with these parameters."""
        self.study.enqueue_trial(params, user_attrs={"point": _point(params)})

    def has_work(self) -> bool:
        """Queue what is missing, and wait until a trial is queued; False if the study is done."""
        while True:
            fail_stale_trials(self.study)
            with self.storage.lock:
                counted = self.counted()
                late = {trial.number for trial in counted[self.goal :]}
                queue = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
                if any(trial.number not in late for trial in queue):
                    return True
                if len(counted) < self.goal:
                    self._fill_queue(counted)
                    return True
            if all(trial.state in DONE for trial in counted[: self.goal]):
                return False
            time.sleep(1)

    def _fill_queue(self, counted: list[FrozenTrial]) -> None:
        if not self.grid:
            self.study.enqueue_trial({})
        points = {trial.user_attrs.get("point") for trial in counted}
        for point in [*self.grid][: self.goal]:
            if point not in points:
                self.enqueue(self.grid[point])

    def needs(self, number: int) -> bool:
        """Whether a trial is among the first that count, as many as the goal."""
        return number in [trial.number for trial in self.counted()[: self.goal]]

    def close(self) -> None:
        """Close the connections to the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def _open(url: str, heartbeat: int) -> SharedStorage:
    for _ in range(2):
        with suppress(IntegrityError, ProgrammingError):  # another worker is creating the tables
            return SharedStorage(url, heartbeat)
        time.sleep(1)
    return SharedStorage(url, heartbeat)


def _point(params: dict[str, Any]) -> str:
    """The parameters as text, by which trials that are queued twice are recognized."""
    return json.dumps(params, sort_keys=True)


def quiet() -> None:
    """Silence Optuna: the sweep prints lines of its own, and heartbeats are experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)


def _retry(study: optuna.Study, trial: FrozenTrial) -> None:
    if "reason" not in trial.user_attrs:  # else its worker was killed just after the trial ended
        RetryHeartbeatStaleTrialCallback(RETRIES)(study, trial)


def failure(trial: FrozenTrial) -> str | None:
    """Why a trial failed; None if it did not, or was interrupted and is replaced by another.

    The attribute ``reason`` of a trial that was interrupted is None; it is absent if the worker was
    killed.
    """
    kills = len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) + 1
    killed = f"its worker was killed {kills} times" if kills > RETRIES else None
    reason: str | None = trial.user_attrs.get("reason", killed)
    return reason if trial.state == TrialState.FAIL else None


def database_error(error: BaseException) -> BaseException:
    """The database driver's own error behind one of Optuna or SQLAlchemy."""
    return getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
