"""A study in its database: trials that workers on any number of machines share, each done once."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial
from sqlalchemy import make_url, text
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from mnist_lit.errors import InputError
from mnist_lit.sweep.space import Plan

RETRIES = 3  # a trial whose worker was killed once more counts as failed
DONE = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
DATABASE_ERRORS = (StorageInternalError, SQLAlchemyError)

# A row that nothing else locks, for as long as a trial is chosen.
LOCK = """\
SELECT objective FROM study_directions
WHERE study_id = (SELECT study_id FROM studies WHERE study_name = :name)
FOR UPDATE"""


class Study:
    """A study, which any number of processes may have open at the same time.

    A trial counts if it waits, runs, or has ended by itself: complete, pruned or failed. One that
    its worker has left does not, and is tried again under another number.

    Args:
        url: Of a database, as SQLAlchemy takes it.
        name: Of the study; it is made if there is none.
        plan: What is searched, and how.
        trials: How many trials the study shall have; all of the grid if None.

    Raises:
        InputError: If the database cannot be opened.
    """

    def __init__(self, url: str, name: str, plan: Plan, trials: int | None) -> None:
        self.name, self.plan = name, plan
        self.grid = plan.grid()
        self.goal = min(len(self.grid), trials or len(self.grid)) if self.grid else trials or 20
        try:
            place = make_url(url)
            self.place = place.render_as_string(hide_password=True)
            self._file = None
            if place.get_backend_name() == "sqlite":
                if place.database in (None, "", ":memory:"):
                    raise OSError("a database in memory would not be shared")
                self._file = Path(str(place.database))
                self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._locked_file():
                self.storage = self._open(url)
                self.study = optuna.create_study(
                    storage=self.storage,
                    study_name=name,
                    pruner=plan.make_pruner(),
                    load_if_exists=True,
                )
        except (ImportError, OSError, RuntimeError, *DATABASE_ERRORS) as error:
            raise InputError(
                f"The database cannot be opened: {first_line(error)}",
                "--storage takes a URL such as sqlite:///x.db or postgresql+psycopg://user@host/x, "
                "of a server that runs and whose driver is here: pip install 'psycopg[binary]'.",
            ) from error

    def _open(self, url: str) -> RDBStorage:
        for attempt in range(3):
            try:
                return RDBStorage(
                    url,
                    # SQLite's writers wait for each other; a server may have been restarted.
                    {"connect_args": {"timeout": 60}} if self._file else {"pool_pre_ping": True},
                    heartbeat_interval=self.plan.heartbeat,
                    grace_period=4 * self.plan.heartbeat,
                    heartbeat_stale_trial_callback=_retry,
                )
            except (IntegrityError, ProgrammingError):  # another worker made the tables just now
                if attempt == 2:
                    raise
                time.sleep(1)
        raise AssertionError

    def keep(self, first: dict[str, Any] | None = None, **shared: Any) -> dict[str, Any]:
        """Keep with the study what all its trials share, unless it has trials already.

        Args:
            first: The parameters of the first trial, if it is not drawn.
            shared: What is kept.

        Returns:
            What is kept.
        """
        with self._alone():
            if not self.trials():
                for name, value in shared.items():
                    self.study.set_user_attr(name, value)
                if first:
                    self._queue(first)
        return self.study.user_attrs

    def trials(self, *states: TrialState) -> list[FrozenTrial]:
        """The trials that count, in the order in which they were begun; of these states, if any."""
        return [
            trial
            for trial in self.study.get_trials(deepcopy=False, states=states or None)
            if trial.state != TrialState.FAIL or reason(trial)
        ]

    def claim(self) -> Trial | None:
        """Begin a trial; while there is none to begin, wait for those of other workers.

        Returns:
            A trial with its parameters, or None if all are done.
        """
        while True:
            with self._alone():
                fail_stale_trials(self.study)
                trials = self.trials()
                if not self.trials(TrialState.WAITING) and len(trials) < self.goal:
                    self._queue(self._next(trials))
                if waiting := self.trials(TrialState.WAITING):
                    # Alive before it is begun: killed at any moment, it is missed.
                    self.storage.record_heartbeat(waiting[0]._trial_id)
                    self.study.sampler = self.plan.make_sampler(waiting[0].number)
                    return self.study.ask(self.plan.space)
                if not self.trials(TrialState.RUNNING):
                    return None
            time.sleep(1)

    def _next(self, trials: list[FrozenTrial]) -> dict[str, Any]:
        """The parameters of the next trial that are known: on a grid all, else none."""
        tried = [trial.params for trial in trials]
        return next((point for point in self.grid or () if point not in tried), {})

    def _queue(self, params: dict[str, Any], history: dict[str, Any] | None = None) -> None:
        space = {key: self.plan.space[key] for key in params}
        self.study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=params,
                distributions=space,
                system_attrs=history,
            )
        )

    @contextmanager
    def alive(self, trial: Trial) -> Iterator[None]:
        """Show, as long as it takes, that the worker of a trial lives."""
        end = Event()

        def beat() -> None:
            while not end.wait(self.plan.heartbeat):
                with suppress(*DATABASE_ERRORS):  # out of reach for the moment
                    self.storage.record_heartbeat(trial._trial_id)
            self.storage.remove_session()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def end(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        """End a trial.

        Raises:
            UpdateFinishedTrialError: If it was given to another worker meanwhile.
        """
        with self._alone():
            if self._frozen(trial).state != TrialState.RUNNING:
                raise UpdateFinishedTrialError
            self.study.tell(trial, value, state)

    def fail(self, trial: Trial, why: str) -> None:
        """End a trial that failed, for a reason in one line; raises as :meth:`end`."""
        trial.set_user_attr("reason", why)
        self.end(trial, TrialState.FAIL)

    def give_back(self, trial: Trial) -> None:
        """Leave a trial for a later worker, or for this one when it starts again."""
        with self._alone():
            frozen = self._frozen(trial)
            if frozen.state == TrialState.RUNNING:
                trial.set_user_attr("given_back", True)
                self.study.tell(trial, state=TrialState.FAIL)
                self._queue(frozen.params, frozen.system_attrs)

    def _frozen(self, trial: Trial) -> FrozenTrial:
        return self.study.get_trials(deepcopy=False)[trial.number]

    def close(self) -> None:
        """Close the connections to the database."""
        self.storage.remove_session()
        self.storage.engine.dispose()

    @contextmanager
    def _locked_file(self) -> Iterator[None]:
        if not self._file:
            yield
            return
        with FileLock(f"{self._file}.lock"):
            yield

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other workers from choosing a trial: else two might choose the same, or the last."""
        if self._file:
            with self._locked_file():
                yield
            return
        with self.storage.engine.begin() as connection:
            connection.execute(text(LOCK), {"name": self.name})
            yield


def quiet() -> None:
    """Let Optuna say nothing: the sweep itself does, and heartbeats work without Study.optimize."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)
    warnings.filterwarnings("ignore", "Heartbeat of storage is supposed")


def _retry(study: optuna.Study, trial: FrozenTrial) -> None:
    if "reason" not in trial.user_attrs:  # or it was killed when it had said why it failed
        RetryHeartbeatStaleTrialCallback(RETRIES)(study, trial)


def reason(trial: FrozenTrial) -> str | None:
    """Why a trial failed; None if it did not, or was only left by its worker."""
    if trial.state != TrialState.FAIL:
        return None
    why: str | None = trial.user_attrs.get("reason")
    kills = len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) + 1
    if kills > RETRIES and "given_back" not in trial.user_attrs:
        return why or f"its worker was killed, {kills} times"
    return why


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    cause = getattr(error, "orig", None) or getattr(error.__cause__, "orig", None) or error
    lines = str(cause).strip().splitlines()
    return lines[0] if lines else type(error).__name__
