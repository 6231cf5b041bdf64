"""OptionsCLI: the options of a command on top of the settings recorded in its checkpoint."""

import json
import os
import secrets
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from mnist_lit.checkpoints import TRAINING_ONLY, load_checkpoint, recorded_settings, verify_weights
from mnist_lit.cli import DigitsCLI
from mnist_lit.errors import InputError
from mnist_lit.module import DigitClassifier
from mnist_lit.options import parse
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.runs import directories as runs
from mnist_lit.runs.files import flat, read_run
from mnist_lit.training.predictions import PredictDataModule
from mnist_lit.training.processes import PROGRAM
from mnist_lit.training.resuming import FREE_WHEN_RESUMED, bound_settings, changes
from mnist_lit.training.trainer import RunTrainer

DESCRIPTIONS = {
    "fit": "Train a network.",
    "validate": "Evaluate a checkpoint on the validation images.",
    "test": "Evaluate a checkpoint on the test images.",
    "predict": "Write the predictions of a checkpoint to predictions.csv: for the test images or, "
    "with --data.predict_dir FOLDER, for the digits in a folder of images. The probabilities are "
    "not calibrated, unlike those of read. The exit status is 2 if an image could not be read.",
}

CKPT_PATH = {
    "fit": "Resume from this checkpoint, with the settings of its run: a file, or last or best for "
    "the newest run. Default: start a new run.",
    "test": "Required. The checkpoint to evaluate, with the model and data settings of its run: a "
    "file, or best or last for the newest run that has one. Several, or the name of a study or of "
    "several runs, are also evaluated as an ensemble, by the mean of their probabilities.",
    "other": "Required. The checkpoint to evaluate, with the model and data settings of its run: a "
    "file, or best or last for the newest run that has one.",
}


# Settings that decide which images are held out.
SPLIT = ("data.val_size", "data.folds", "data.fold", "data.split_seed")


class OptionsCLI(DigitsCLI):
    """DigitsCLI for a single command.

    Args:
        args: The command and its options.

    Attributes:
        checkpoint: The file that was given or found, the first of several; None for a new run.
        members: All files that were given or found.
        state: Its contents.
    """

    def __init__(self, args: list[str]) -> None:
        self.command = args[0]
        self.args = args = _with_list(args, "--ckpt_path") if self.command == "test" else args
        self.checkpoint: Path | None = None
        self.members: list[Path] = []
        self.state: dict[str, Any] = {}
        super().__init__(
            args,
            trainer_class=RunTrainer,
            datamodule_class=(
                PredictDataModule if self.command == "predict" else OwnDigitsDataModule
            ),
            parser_kwargs={
                "prog": PROGRAM,
                "exit_on_error": False,
                "allow_abbrev": False,
                self.command: {
                    "exit_on_error": False,
                    "usage": f"{PROGRAM} {self.command} [--config FILE ...] [options]",
                    "description": DESCRIPTIONS[self.command],
                },
            },
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Only the command that is called, since each parser takes time to build."""
        skipped = {"ckpt_path", "weights_only", "verbose"}
        return {self.command: LightningCLI.subcommands()[self.command] | skipped}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--name``, and replace Lightning's ``--ckpt_path``."""
        self.command_parser = parser
        text = CKPT_PATH.get(self.command, CKPT_PATH["other"])
        kind = list[str] | str | None if self.command == "test" else str | None
        parser.add_argument("--ckpt_path", type=kind, help=text)
        if self.command == "fit":
            parser.add_argument(
                "-n", "--name", default="", help="Name of the run: its directory in lightning_logs."
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the options on top of the settings recorded in the checkpoint."""
        self.config = self._parse(parser, args)
        log_dir = self.log_dir()
        if (which := self.config[self.command].ckpt_path) is not None:
            if self.command == "test":
                names = which if isinstance(which, list) else [which]
                self.members = runs.find_checkpoints(names, log_dir)
            else:
                of_newest = self.command == "fit"
                self.members = [runs.find_checkpoint(which, log_dir, of_newest=of_newest)]
            self.checkpoint = self.members[0]
            self._parse_over_recorded(parser, args, self.checkpoint)
        elif self.command != "fit":
            found = runs.checkpoints(log_dir, "best") or runs.checkpoints(log_dir)
            newest = found[0] if found else "best"
            raise InputError(
                f"{self.command} needs a checkpoint.",
                f"For example: {PROGRAM} {self.command} --ckpt_path {newest}",
            )
        settings = self.config[self.command]
        if isinstance(settings.seed_everything, bool):  # no seed was given
            # Processes started by Lightning inherit the seed. Those started by torchrun or SLURM
            # draw their own, but weights and batches follow that of rank 0.
            inherited = os.environ.get("PL_GLOBAL_SEED") if "LOCAL_RANK" in os.environ else None
            settings.seed_everything = int(inherited or secrets.randbelow(2**32))
        if self.command == "fit":
            runs.check_name(settings.name)

    def _parse(self, parser: LightningArgumentParser, args: list[str], source: str = "") -> Any:
        keys = self.command_parser.get_defaults().keys()
        return parse(parser, args, keys, f"{PROGRAM} {self.command}", source)

    def _parse_over_recorded(
        self, parser: LightningArgumentParser, args: list[str], checkpoint: Path
    ) -> None:
        self.state = load_checkpoint(checkpoint)
        if len(self.members) == 1:
            rank_zero_only(print)(f"Checkpoint: {runs.describe_checkpoint(checkpoint)}")
        recorded = self._recorded(checkpoint)
        base = [self.command, "--config", yaml.safe_dump(recorded)]
        self.config = self._parse(parser, [*base, *args[1:]], f"{checkpoint}: ")
        self.config[self.command].ckpt_path = str(checkpoint)
        verify_weights(DigitClassifier, recorded["model"], self.state, checkpoint)

        split = [key for key, *_ in changes(recorded, self.settings()) if key in SPLIT]
        if self.command == "validate" and split:
            note = f"Note: the training had another {' and '.join(sorted(split))}"
            rank_zero_only(print)(f"{note}, and may have used these images.", file=sys.stderr)
        bound = bound_settings(recorded["model"]) if self.command == "fit" else ("model.",)
        for key, then, now in changes(recorded, self.settings()):
            if key.startswith(bound) and key not in FREE_WHEN_RESUMED:
                raise InputError(
                    f"{key} is {then} in the checkpoint and {now} in your options.",
                    "Leave it out to use the checkpoint, or start a new run without --ckpt_path.",
                )

    def _recorded(self, checkpoint: Path) -> dict[str, Any]:
        """The settings that the command takes from its checkpoint."""
        needed: dict[str, Any] = {}
        if self.command != "fit":
            needed = {"sections": ("model", "data"), "without": TRAINING_ONLY}
        elif run := runs.resumable(checkpoint, self.state):
            needed = {"own_loggers": _has_loggers(run, self.state)}
        trusted = set(_strings(self.settings()))
        recorded = recorded_settings(self.state, checkpoint, named_by_user=trusted, **needed)
        if self.command == "fit":
            config = self.state.get("config", {})
            for name, kind in (("seed_everything", int), ("name", str)):
                if type(config.get(name)) is kind:
                    recorded[name] = config[name]
            own_dir = config.get("data", {}).get("own_dir")
            if own_dir and not self.config.fit.data.own_dir:
                raise InputError(
                    f"This run was trained with the own digits in {own_dir}.",
                    "To resume it, give their folder again: --data.own_dir FOLDER",
                )
        return recorded

    def settings(self, changed: bool = False) -> dict[str, Any]:
        """Return all settings, or only those changed from their default, as primitives."""
        config = self.config[self.command]
        text = self.command_parser.dump(config, skip_unset=False, skip_default=changed)
        settings: dict[str, Any] = yaml.safe_load(text)
        return settings

    def log_dir(self) -> Path:
        """Return the directory of the runs."""
        root = self.config[self.command].trainer.default_root_dir
        return Path(root or ".", runs.LOG_DIR)


def _has_loggers(run: Path, state: dict[str, Any]) -> bool:
    """Whether the record of a run, written on this machine, has the loggers of a checkpoint."""
    recorded, of_checkpoint = (
        {key: value for key, value in settings.items() if key.startswith("trainer.logger")}
        for settings in (read_run(run, "").settings, dict(flat(state.get("config", {}))))
    )
    return recorded == of_checkpoint


def _with_list(args: list[str], option: str) -> list[str]:
    """Write several values after an option as one list, which the parser expects."""
    if option not in args:
        return args
    start = args.index(option) + 1
    values = list(takewhile(lambda arg: not arg.startswith("-"), args[start:]))
    if len(values) < 2:
        return args
    return [*args[:start], json.dumps(values), *args[start + len(values) :]]


def _strings(settings: Any) -> Iterator[str]:
    """Yield the strings among nested values, without keys."""
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _strings(value)
    elif isinstance(settings, str):
        yield settings
