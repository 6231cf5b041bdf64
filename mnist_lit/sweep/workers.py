"""The workers of a sweep: one in this process, or many in processes of their own."""

import os
import signal
import subprocess
import sys

import torch
from optuna import Study as OptunaStudy
from optuna.trial import FrozenTrial, TrialState

from mnist_lit.sweep.objective import FailedError, Objective
from mnist_lit.sweep.report import trial_line
from mnist_lit.sweep.study import Study, failure


def work(study: Study, fit: list[str], parent: int | None = None) -> None:
    """Run trials until the study has all, or the parent process has ended.

    Args:
        study: The study.
        fit: The options of all trials.
        parent: The process that started this one, if it is a worker of many.
    """

    def tell(_: OptunaStudy, trial: FrozenTrial) -> None:
        if trial.state != TrialState.FAIL or failure(trial):
            print(trial_line(study, trial), flush=True)

    objective = Objective(study, fit)
    while parent in (None, os.getppid()) and study.has_work():
        try:
            study.study.optimize(
                objective, n_trials=1, catch=(FailedError,), callbacks=[tell], gc_after_trial=True
            )
        except ValueError:  # Optuna ends no trial that has ended
            if not objective.reassigned:
                raise
            print("A trial was reassigned: its heartbeats had stopped.", flush=True)
        if objective.error:
            raise objective.error


def employ(jobs: int, args: list[str]) -> int:
    """Let worker processes run the trials, each in a process group of its own.

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
