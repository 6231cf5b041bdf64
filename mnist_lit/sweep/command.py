"""The command sweep: a search over any settings, by one worker or many, on Optuna."""

import gc
import os
import signal
import subprocess
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import torch
from optuna import TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from mnist_lit.errors import InputError
from mnist_lit.options import CommandParser
from mnist_lit.runs import directories as runs
from mnist_lit.sweep.findings import claim_directory, report, trial_line
from mnist_lit.sweep.space import override, read_plan
from mnist_lit.sweep.study import DATABASE_ERRORS, DONE, Study, first_line, quiet
from mnist_lit.sweep.trials import (
    DivergedError,
    check_same,
    check_settings,
    check_space,
    settings_of,
    train,
)

NOTES = """\
All other options are those of fit, and hold for every trial. A trial is a run like any other, in
lightning_logs/STUDY/version_N; without --seed_everything all have seed 0. The trial with the lowest
validation loss is the best; the test images are not touched. The same command again, later or at
the same time, here or on another machine that reaches the database, goes on with the study until it
has so many trials. docs/sweep.md describes the file of the space."""


def main(args: list[str]) -> int:
    """Run ``sweep``.

    Args:
        args: The command and its options.

    Returns:
        The exit status: 0, or that of the workers if they left trials undone.

    Raises:
        InputError: If something is wrong with the options or the database, or all trials failed.
    """
    options, fit = _options(args[1:])
    quiet()
    plan = read_plan(options.space)
    settings = settings_of(fit)
    if not options.worker:
        check_settings(settings)
        check_space(plan.space, fit)
    if settings["trainer"]["devices"] == "auto":
        fit = [*fit, "--trainer.devices=1"]
    directory = Path(settings["trainer"]["default_root_dir"] or ".", runs.LOG_DIR, options.study)
    url = options.storage or f"sqlite:///{directory / 'study.db'}"
    with closing(Study(url, options.study, plan, options.trials)) as study, _explained():
        check_same(study, settings)
        claim_directory(study, directory)
        if options.worker:
            _work(study, fit, options.worker)
            return 0
        done = len(study.trials(*DONE))
        goal = max(done, study.goal)
        print(f"Study {study.name}: {done} of {goal} trials, {study.place}", flush=True)
        jobs = min(options.jobs, study.goal - done)
        status = _employ(jobs, args) if jobs > 1 else _work(study, fit)
        if len(study.trials(*DONE)) < study.goal:
            return status
        report(study, fit, directory)
    return 0


def _options(args: list[str]) -> tuple[Namespace, list[str]]:
    """The options of the sweep, and those of ``fit``."""
    parser = CommandParser("sweep", "Search for the settings with the lowest validation loss.")
    parser.usage = f"{parser.prog} --space FILE [--config FILE ...] [options] [options of fit]"
    parser.epilog = NOTES
    add = parser.add_argument
    add("--space", type=Path, required=True, metavar="FILE", help="What is searched, in YAML.")
    trials_help = (
        "How many trials the study shall have in all. Default: 20, and with the GridSampler all."
    )
    add("--trials", type=int, metavar="N", help=trials_help)
    study_help = "Name of the study, and of its runs. Default: sweep."
    add("--study", default="sweep", metavar="NAME", help=study_help)
    storage_help = (
        "The database, as SQLAlchemy takes it. Default: SQLite in lightning_logs/STUDY/study.db."
    )
    add("--storage", metavar="URL", help=storage_help)
    jobs_help = "Worker processes, which divide the processor's threads. Default: 1."
    add("--jobs", type=int, default=1, metavar="N", help=jobs_help)
    add("--worker", type=int, metavar="PARENT", help=SUPPRESS)
    options, fit = parser.parse_known_args(args)
    for name in ("trials", "jobs"):
        if (number := getattr(options, name)) is not None and number < 1:
            raise InputError(f"--{name} is {number}.", "Give 1 or more.")
    if not options.study:
        raise InputError("The study has no name.", "Give one, or leave --study out.")
    runs.check_name(options.study)
    return options, ["--seed_everything=0", *fit]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        raise InputError(
            f"The database failed: {first_line(error)}",
            "What it holds is safe: the same command goes on.",
        ) from error
    except ImportError as error:  # some of Optuna's samplers
        raise InputError(f"{error}.", "Install it, or name another sampler.") from error
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal
            print("To go on with the study, give the same command again.", file=sys.stderr)
        raise


def _work(study: Study, fit: list[str], parent: int | None = None) -> int:
    """Do trials until the study has all, or the parent process is gone."""
    while parent in (None, os.getppid()) and (trial := study.claim()):
        options = [override(key, trial.params[key]) for key in study.plan.space]
        try:
            with study.alive(trial):
                _attempt(study, trial, [*fit, *options, f"--name={study.name}"])
        except UpdateFinishedTrialError:
            print(f"trial {trial.number}  was given to another worker: this one was not heard of")
            continue
        print(trial_line(study, trial.number), flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return 0


def _attempt(study: Study, trial: Trial, args: list[str]) -> None:
    """Train for a trial, and end it in one way or another."""
    try:
        value = train(trial, args)
    except TrialPruned:
        study.end(trial, TrialState.PRUNED)
    except UpdateFinishedTrialError:
        raise
    except Exception as error:
        if isinstance(error.__cause__ or error, (OSError, *DATABASE_ERRORS)):
            study.give_back(trial)  # a full disk, say: it is no fault of the trial
            raise
        if isinstance(error, InputError) and not study.trials(*DONE) and _goes_together(args):
            study.end(trial, TrialState.FAIL)  # does not count: the command is to be mended
            raise
        study.fail(trial, _reason(error))
        if isinstance(error, torch.AcceleratorError):
            raise InputError(
                f"The accelerator fails since trial {trial.number}: {first_line(error)}",
                "The same command goes on with the study, in a process of its own.",
            ) from error
    except BaseException:  # a signal
        study.give_back(trial)
        raise
    else:
        study.end(trial, TrialState.COMPLETE, value)


def _goes_together(args: list[str]) -> bool:
    """Whether the parameters of a trial fit each other; what is wrong is then wrong for all."""
    try:
        settings_of(args)
    except InputError:
        return False
    return True


def _reason(error: Exception) -> str:
    own = isinstance(error, InputError | DivergedError)
    text = first_line(error) if own else f"{type(error).__name__}: {first_line(error)}"
    return text[:200]


def _employ(jobs: int, args: list[str]) -> int:
    """Let worker processes do the trials.

    Each is a command of its own in a process group of its own: a signal comes from here, once.

    Returns:
        The highest exit status of a worker.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    command = [sys.executable, "-m", "mnist_lit", *args, "--worker", str(os.getpid())]
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ  # the user's own goes first
    with ExitStack() as files:
        said = [files.enter_context(TemporaryFile("w+")) for _ in range(jobs)]
        workers = [
            subprocess.Popen(command, env=environment, stderr=each, process_group=0)
            for each in said
        ]
        try:
            statuses = [worker.wait() for worker in workers]
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
        for each in said:
            each.seek(0)
        texts = dict.fromkeys(each.read() for each in said)
    print(*texts, sep="", end="", file=sys.stderr)
    for status in statuses:
        if status < 0:
            print(f"A worker was ended by {signal.Signals(-status).name}.", file=sys.stderr)
    return max(status if status >= 0 else 128 - status for status in statuses)
