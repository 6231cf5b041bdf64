"""The command sweep: search for the settings with the lowest validation loss."""

import os
import signal
import subprocess
import sys
from argparse import SUPPRESS, Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from jsonargparse.typing import PositiveInt
from sqlalchemy import URL

from mnist_lit.errors import InputError, first_line
from mnist_lit.options import CommandParser
from mnist_lit.runs import directories as runs
from mnist_lit.sweep.figures import count
from mnist_lit.sweep.plan import read_plan
from mnist_lit.sweep.report import claim_directory, report
from mnist_lit.sweep.settings import check_same, check_settings, check_space, settings_of
from mnist_lit.sweep.study import DATABASE_ERRORS, DONE, Study, database_error, quiet
from mnist_lit.sweep.worker import work

NOTES = """\
All other options are those of fit, and hold for every trial. A trial is a run like any other, in
lightning_logs/STUDY/version_N; without --seed_everything all have seed 0. The trial with the lowest
validation loss is the best; the test images are not used. Run the same command again, later or at
the same time, on this machine or on another one that reaches the database, to continue the study.
docs/sweep.md describes the sweep file."""

TRIALS = "Total number of trials in the study. Default: 20; with the GridSampler, the whole grid."
STORAGE = "Database URL, as in SQLAlchemy. Default: SQLite in lightning_logs/STUDY/study.db."


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
        given = check_space(plan.space, fit, settings)
    if settings["trainer"]["devices"] == "auto":
        fit = [*fit, "--trainer.devices=1"]
    directory = Path(settings["trainer"]["default_root_dir"] or ".", runs.LOG_DIR, options.study)
    default = URL.create("sqlite", database=str(directory / "study.db"))  # quotes a ?
    url = options.storage or default.render_as_string()
    with closing(Study(url, options.study, plan, options.trials)) as study, _explained():
        if options.worker:
            work(study, fit, options.worker)
            return 0
        check_same(study, settings, given)
        claim_directory(study, directory)
        done = len(study.counted(*DONE))
        goal = max(done, study.goal)
        print(f"Study {study.name}: {done} of {count(goal)}, {study.storage.place}", flush=True)
        jobs = min(options.jobs, study.goal - done)
        if jobs <= 1:
            work(study, fit)
        elif (status := _work_in_processes(jobs, args)) and len(study.counted(*DONE)) < study.goal:
            return status
        report(study, fit, directory)
    return 0


def _options(args: list[str]) -> tuple[Namespace, list[str]]:
    """The options of the sweep, and those of ``fit``."""
    parser = CommandParser("sweep", "Search for the settings with the lowest validation loss.")
    parser.usage = f"{parser.prog} --space FILE [--config FILE ...] [options] [options of fit]"
    parser.epilog = NOTES
    add = parser.add_argument
    add("--space", type=Path, required=True, metavar="FILE", help="The sweep file, in YAML.")
    add("--trials", type=PositiveInt, metavar="N", help=TRIALS)
    name = "Name of the study and of its runs. Default: sweep."
    add("--study", default="sweep", metavar="NAME", help=name)
    add("--storage", metavar="URL", help=STORAGE)
    jobs = "Worker processes, which share the CPU's threads. Default: 1."
    add("--jobs", type=PositiveInt, default=1, metavar="N", help=jobs)
    add("--worker", type=int, metavar="PARENT", help=SUPPRESS)
    options, fit = parser.parse_known_args(args)
    if not options.study:
        raise InputError("The study has no name.", "Give one, or leave --study out.")
    runs.check_name(options.study)
    return options, ["--seed_everything=0", *fit]


def _work_in_processes(jobs: int, args: list[str]) -> int:
    """Run trials in worker processes, each in a process group of its own.

    So a signal reaches them from here, once. Returns the highest exit status.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    command = [sys.executable, "-m", "mnist_lit", *args, "--worker", str(os.getpid())]
    environment = {"OMP_NUM_THREADS": str(threads)} | os.environ
    workers = [
        subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, process_group=0, text=True
        )
        for _ in range(jobs)
    ]
    try:
        texts = dict.fromkeys(worker.communicate()[1] for worker in workers)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()
    print(*texts, sep="", end="", file=sys.stderr)
    statuses = [worker.returncode for worker in workers]
    for status in statuses:
        if status < 0:
            print(f"A worker was ended by {signal.Signals(-status).name}.", file=sys.stderr)
    return max(status if status >= 0 else 128 - status for status in statuses)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except DATABASE_ERRORS as error:
        raise InputError(
            f"The database failed: {first_line(database_error(error))}",
            "No finished trial is lost. To resume, run the same command again.",
        ) from error
    except BaseException as error:
        if not isinstance(error, Exception):  # a signal
            print("To resume the study, run the same command again.", file=sys.stderr)
        raise
