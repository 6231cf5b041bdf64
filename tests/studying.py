"""A worker of a study without trainings, so that tests can start many and kill them."""

import sys
import time
from pathlib import Path

from optuna.trial import TrialState

from mnist_lit.space import read_plan
from mnist_lit.study import Study, quiet

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
