"""A callback that sends a signal in the middle of a training."""

import signal
from pathlib import Path

# In the middle of the second epoch a process sends the signal that its file names.
FAULT = """
import os
import time
from pathlib import Path
from lightning.pytorch import Callback

class Fault(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        signum = Path(f"signal_of_{trainer.global_rank}")
        if (trainer.current_epoch, batch_idx) == (1, 5) and signum.exists():
            number, pid = map(int, signum.read_text().split())
            signum.unlink()
            os.kill(pid or os.getpid(), number)
            time.sleep(600)
"""


def fault(directory: Path, rank: int, signum: signal.Signals, pid: int = 0) -> str:
    """Have the process of this rank send a signal to itself, or to ``pid``; give fit's option."""
    (directory / "fault.py").write_text(FAULT)
    (directory / f"signal_of_{rank}").write_text(f"{signum.value} {pid}")
    return "--trainer.callbacks+=fault.Fault"
