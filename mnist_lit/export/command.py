"""The command export: write a checkpoint to one ONNX file, and verify that they agree."""

import io
import json
import logging
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from lightning.pytorch import Trainer
from numpy.typing import NDArray
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.utils.data import Dataset

from mnist_lit import __version__
from mnist_lit.checkpoints import instantiate, load_checkpoint
from mnist_lit.checkpoints.archive import EXPECTED
from mnist_lit.data import Batch, scaled
from mnist_lit.errors import InputError, first_line
from mnist_lit.export.calibration import (
    CONFIDENT_SHARE,
    MIN_THRESHOLD,
    default_threshold,
    fitted_temperature,
)
from mnist_lit.files import atomic_write, sha256
from mnist_lit.module import DigitClassifier
from mnist_lit.options import CommandParser, path_with, unused
from mnist_lit.own_digits.data import OwnDigitsDataModule
from mnist_lit.reading.models import open_session, refusal
from mnist_lit.reading.reader import Reader
from mnist_lit.training.evaluation import TrainedModel, joined, load_members, outputs

# Largest allowed differences between the checkpoint and the exported model.
TOLERANCES = {"logit": 1e-4, "probability": 1e-4}

BATCH_SIZES = (1, 2, 500)  # verified besides the Reader's own

# Settings that decide which images are held out.
SPLIT = ("val_size", "folds", "fold", "split_seed")

# The entries of a checkpoint that say what its model is.
KEPT = (*EXPECTED, "config")

# Settings left out of the recipe: paths, and what the metadata already has.
NOT_IN_RECIPE = (
    *("seed_everything", "name", "ckpt_path", "config"),
    *("data_dir", "own_dir", "predict_dir", "default_root_dir", "_instantiator"),
)


def main(args: list[str]) -> None:
    """Run ``export``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If an option or a file it names is invalid, or if the exported model does not
            agree with the checkpoint.
    """
    options = _options(args[1:])
    members = load_members(options.ckpt_path)
    if options.weights:
        _check_weights(members, options.weights)
    model = joined(members)
    data = _data(members, options.data_dir)
    labels, logits = _outputs(model, data.test_set, data.eval_batch_size)
    temperature, threshold = 1.0, MIN_THRESHOLD  # if there are no validation images
    metadata = _provenance(members) | {"test_accuracy": _accuracy(labels, logits)}
    if data.has_validation:
        val_labels, val_logits = _outputs(model, data.val_set, data.eval_batch_size)
        metadata["val_accuracy"] = _accuracy(val_labels, val_logits)
        temperature = fitted_temperature(val_labels, val_logits)
        threshold = default_threshold(val_logits / temperature)
    metadata |= {"temperature": temperature, "threshold": threshold}
    content = onnx_model(model.network, temperature, metadata)
    if reason := refusal(content):
        raise InputError(
            f"read would reject the exported {metadata['network']}: {reason}.",
            "No file was written. Change this part of the network.",
        )
    expected = logits, (logits / temperature).softmax(dim=1)
    with atomic_write(options.output) as partial:
        partial.write_bytes(content)
        differences = _verify(partial, data.test_set.images, expected)
    if options.weights:
        _write_weights(members[0].path, options.weights)
    print(report(options.output, metadata, differences, len(data.val_set)))


def _check_weights(members: Sequence[TrainedModel], path: Path) -> None:
    if len(members) > 1:
        raise InputError(
            "--weights writes one checkpoint.", "Give one --ckpt_path, or leave it out."
        )
    if path.exists() and path.samefile(members[0].path):
        raise InputError(
            f"--weights {path} would replace the checkpoint, which could not be resumed then.",
            "Choose another file.",
        )


def _write_weights(checkpoint: Path, path: Path) -> None:
    """Write a checkpoint that can be evaluated and started from, but not resumed."""
    kept = {name: value for name, value in load_checkpoint(checkpoint).items() if name in KEPT}
    content = io.BytesIO()
    torch.save(kept, content)  # to a full disk it would raise a RuntimeError
    with atomic_write(path) as partial:
        partial.write_bytes(content.getbuffer())


def report(
    path: Path, metadata: dict[str, Any], differences: tuple[float, float], val_size: int
) -> str:
    """Summarize the exported model.

    Args:
        path: The model's file.
        metadata: Its metadata.
        differences: The largest differences of the logits and of the probabilities from those of
            the checkpoint.
        val_size: Number of validation images.
    """
    temperature, threshold = (f"{metadata[name]:.4f}" for name in ("temperature", "threshold"))
    if val_size:
        temperature += f", fitted to the {val_size:,} validation images"
        fewer = "fewer than " if metadata["threshold"] == MIN_THRESHOLD else ""
        threshold += f", exceeded by {fewer}{CONFIDENT_SHARE:.0%} of the validation digits"
    else:
        reason = "no images were held out" + (" from all members" if "members" in metadata else "")
        if "data" not in metadata["recipe"]:
            reason = "the checkpoint does not say which images were held out"
        temperature += f", not fitted: {reason}"
        threshold += f", the default: {reason}"
    accuracy = metadata["test_accuracy"]
    rows = {
        "network": f"{metadata['network']}, {metadata['parameters']:,} parameters",
        "test accuracy": f"{accuracy:.2%}",
        "agreement": (
            f"all predictions equal, logits within {differences[0]:.1g}, "
            f"probabilities within {differences[1]:.1g}"
        ),
        "temperature": temperature,
        "threshold": threshold,
    }
    lines = [f"Model: {path}, {path.stat().st_size / 1000:,.0f} kB"]
    lines += [f"{name:15}{text}" for name, text in rows.items()]
    lines.append(f"To use: python -m mnist_lit read --model {path} PICTURE")
    return "\n".join(lines)


class _ExportedModel(nn.Module):
    """The exported module: the network, and probabilities from its logits."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(images).float()
        return logits, (logits / self.temperature).softmax(dim=1)


def onnx_model(network: nn.Module, temperature: float, metadata: dict[str, Any]) -> bytes:
    """Turn a network into the contents of an ONNX file.

    Its input is ``images``, ``float32 (n, 1, 28, 28)`` in [0, 1]; its outputs ``logits`` and
    ``probabilities``, ``float32 (n, 10)``; n is any number of images.

    Args:
        network: In evaluation mode.
        temperature: Divisor of the logits before they become probabilities.
        metadata: Stored in the file; values other than text as JSON.

    Raises:
        InputError: If the network cannot be expressed in ONNX.
    """
    exported = _ExportedModel(network, temperature).eval().to(memory_format=torch.contiguous_format)
    try:
        with _quiet():
            program = torch.onnx.export(
                exported,
                (torch.zeros(2, 1, 28, 28),),
                input_names=["images"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("n")}},
                verbose=False,
            )
        assert program is not None
        model = program.model
        shape = model.graph.inputs[0].shape
        if shape is None or isinstance(shape[0], int):
            raise ValueError("it accepts only a fixed number of images.")
    except Exception as error:  # tracing runs the user's code, which may raise anything
        raise InputError(
            f"{type(network).__name__} cannot be exported: {first_line(error.__cause__ or error)}",
            "Write its forward for any number of images, without branches on their values.",
        ) from error
    ClearMetadataAndDocStringPass()(model)  # names and paths of source files
    model.metadata_props.update({name: _as_text(value) for name, value in metadata.items()})
    content: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporter's messages and warnings."""
    logging.disable()
    try:
        with redirect_stderr(io.StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _options(args: list[str]) -> Namespace:
    parser = CommandParser(
        "export", "Export a checkpoint to a single ONNX file, for read and Reader."
    )
    add = parser.add_argument
    ckpt_help = """The checkpoint: a file, or best or last for the newest run. Several, or the name
        of a study or of several runs, become one model that averages their probabilities."""
    add("--ckpt_path", required=True, nargs="+", metavar="FILE|best|last|NAME", help=ckpt_help)
    output_help = "File to write or replace. Default: digits.onnx, if it does not exist yet."
    add("--output", type=path_with(".onnx"), metavar="FILE", help=output_help)
    weights_help = "Also write the checkpoint to this .ckpt file, without its training state."
    add("--weights", type=path_with(".ckpt"), metavar="FILE", help=weights_help)
    data_help = "Directory of the unpacked data. Default: that of the checkpoint, or data."
    # The second name is the one that fit and test use, and error messages mention.
    add("--data_dir", "--data.data_dir", metavar="DIR", help=data_help)
    options = parser.parse_args(args)
    options.output = options.output or unused(Path("digits.onnx"))
    return options


def _data(members: Sequence[TrainedModel], data_dir: str | None) -> OwnDigitsDataModule:
    settings = members[0].data | ({"data_dir": data_dir} if data_dir else {})
    splits = [[member.data.get(name) for name in SPLIT] for member in members]
    if not members[0].data or any(split != splits[0] for split in splits):
        settings |= {"folds": 0, "fold": 0, "val_size": 0}  # no image is known to be new to all
    data = instantiate(OwnDigitsDataModule, settings)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def _outputs(
    model: DigitClassifier, dataset: Dataset[Batch], batch_size: int
) -> tuple[Tensor, Tensor]:
    labels, logits = outputs(model, dataset, batch_size)
    if not logits.isfinite().all():
        raise InputError(
            "The checkpoint gives logits that are not finite.",
            "Its training diverged; try a lower learning rate.",
        )
    return labels, logits


def _accuracy(labels: Tensor, logits: Tensor) -> float:
    return float(logits.argmax(dim=1).eq(labels).double().mean())


def _provenance(members: Sequence[TrainedModel]) -> dict[str, Any]:
    networks = [member.model.network for member in members]
    names = dict.fromkeys(f"{type(each).__module__}.{type(each).__qualname__}" for each in networks)
    origins = [
        {
            "seed": member.config.get("seed_everything"),
            "checkpoint_sha256": sha256(member.path),
        }
        for member in members
    ]
    return {
        "version": __version__,
        "network": ", ".join(names),
        "parameters": sum(weight.numel() for each in networks for weight in each.parameters()),
        "labels": list(range(10)),
        "recipe": _recipe(members[0]),
        **(origins[0] if len(members) == 1 else {"members": origins}),
    }


def _recipe(trained: TrainedModel) -> dict[str, Any]:
    """Return the settings of the run without the Trainer's defaults."""
    config = trained.config or {"model": dict(trained.model.hparams)}
    defaults = {name: each.default for name, each in signature(Trainer).parameters.items()}
    trainer = {
        name: value
        for name, value in config.get("trainer", {}).items()
        if value != defaults.get(name)
    }
    return _without_unset(config | {"trainer": trainer})


def _without_unset(settings: dict[str, Any]) -> dict[str, Any]:
    """Drop settings that are None or in ``NOT_IN_RECIPE``."""
    return {
        name: _without_unset(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if value is not None and name not in NOT_IN_RECIPE
    }


def _verify(path: Path, images: Tensor, expected: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Compare the exported model with its checkpoint on all images, at several batch sizes.

    Args:
        path: The exported model.
        images: ``uint8 (n, 28, 28)``.
        expected: The checkpoint's logits and probabilities, both ``float32 (n, 10)``.

    Returns:
        The largest difference of a logit, and of a probability.

    Raises:
        InputError: If a prediction differs, or a difference exceeds ``TOLERANCES``.
    """
    inputs = scaled(images).numpy()  # (n, 1, 28, 28)
    session = open_session(path.read_bytes())
    outputs = [
        session.run(["logits", "probabilities"], {"images": inputs[:n]}) for n in BATCH_SIZES
    ]
    outputs.append(Reader(path).classify(inputs[:, 0]))
    differences = [_differences(output, expected) for output in outputs]
    mismatches, *largest = np.max(differences, axis=0).tolist()  # NaN propagates
    for (name, allowed), difference in zip(TOLERANCES.items(), largest, strict=True):
        if mismatches or not difference <= allowed:
            raise InputError(
                f"The exported model differs from the checkpoint in {mismatches:,.0f} of "
                f"{len(images):,} predictions, and by up to {difference:.2g} in a {name}, where "
                f"{allowed:g} is allowed.",
                "No file was written. Check that its forward depends on nothing but the image.",
            )
    return largest[0], largest[1]


def _differences(
    output: Sequence[NDArray[np.float32]], expected: tuple[Tensor, Tensor]
) -> tuple[int, float, float]:
    """Return the number of different predictions, and the largest differences."""
    logits, probabilities = map(torch.from_numpy, output)
    same_logits, same_probabilities = (each[: len(logits)] for each in expected)
    mismatches = int((logits.argmax(dim=1) != same_logits.argmax(dim=1)).sum())
    return (
        mismatches,
        (logits - same_logits).abs().max().item(),
        (probabilities - same_probabilities).abs().max().item(),
    )
