"""The command export: a checkpoint becomes one ONNX file, which answers as the checkpoint does."""

import io
import json
import logging
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
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
from mnist_lit.checkpoints import instantiate
from mnist_lit.data import Batch, MNISTDataModule, scaled
from mnist_lit.errors import InputError
from mnist_lit.export.calibration import LEAST, SURE, default_threshold, fitted_temperature
from mnist_lit.files import sha256, whole
from mnist_lit.options import CommandParser
from mnist_lit.reading.reader import Reader, open_session, refusal
from mnist_lit.training.evaluation import Trained, load_trained, outputs

# Largest allowed differences between checkpoint and model.
TOLERANCES = {"logit": 1e-4, "probability": 1e-4}

BATCHES = (1, 2, 500)  # compared besides the Reader's own

# Settings that are no part of a recipe: where things lie, and what the metadata has by itself.
NO_RECIPE = (
    *("seed_everything", "name", "ckpt_path", "config"),
    *("data_dir", "predict_dir", "default_root_dir", "_instantiator"),
)


def main(args: list[str]) -> None:
    """Run ``export``.

    Args:
        args: The command and its options.

    Raises:
        InputError: If something is wrong with them, or with the files they name, or if the
            exported model does not answer as the checkpoint does.
    """
    options = _options(args[1:])
    trained = load_trained(options.ckpt_path)
    data = _data(trained.data, options.data_dir)
    labels, logits = _outputs(trained, data.test_set, data.eval_batch_size)
    temperature, threshold = 1.0, LEAST  # where there are no validation images
    metadata = _provenance(trained) | {"test_accuracy": _accuracy(labels, logits)}
    if data.val_size:
        val_labels, val_logits = _outputs(trained, data.val_set, data.eval_batch_size)
        metadata["val_accuracy"] = _accuracy(val_labels, val_logits)
        temperature = fitted_temperature(val_labels, val_logits)
        threshold = default_threshold(val_logits / temperature)
    metadata |= {"temperature": temperature, "threshold": threshold}
    content = onnx_model(trained.model.network, temperature, metadata)
    if reason := refusal(content):
        raise InputError(
            f"{metadata['network']} was exported, but read would refuse the model: {reason}.",
            "No file was written. Change that part of the network.",
        )
    expected = logits, (logits / temperature).softmax(dim=1)
    with whole(options.output) as partial:
        partial.write_bytes(content)
        differences = _checked(partial, data.test_set.images, expected)
    print(words(options.output, metadata, differences, data.val_size))


def words(
    path: Path, metadata: dict[str, Any], differences: tuple[float, float], val_size: int
) -> str:
    """Say what was made.

    Args:
        path: The model's file.
        metadata: What it notes.
        differences: The largest between the checkpoint's and the model's logits, and
            probabilities.
        val_size: Number of validation images.
    """
    temperature, threshold = (f"{metadata[name]:.4f}" for name in ("temperature", "threshold"))
    if val_size:
        temperature += f", fitted to the {val_size:,} validation images"
        fewer = "fewer than " if metadata["threshold"] == LEAST else ""
        threshold += f", which {fewer}{SURE:.0%} of the validation digits exceed in probability"
    else:
        temperature += ": without validation images it cannot be fitted"
        threshold += ": without validation images there is none to measure"
    accuracy = metadata["test_accuracy"]
    rows = {
        "network": f"{metadata['network']}, {metadata['parameters']:,} parameters",
        "test accuracy": f"{accuracy:.2%}",
        "agreement": (
            f"all 10,000 predictions equal, logits within {differences[0]:.1g}, "
            f"probabilities within {differences[1]:.1g}"
        ),
        "temperature": temperature,
        "threshold": threshold,
    }
    lines = [f"Model: {path}, {path.stat().st_size / 1000:,.0f} kB"]
    lines += [f"{name:15}{what}" for name, what in rows.items()]
    lines.append(f"To read with it: python -m mnist_lit read --model {path} PICTURE")
    return "\n".join(lines)


class _Answer(nn.Module):
    """What is exported: the network, and probabilities from its logits."""

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
        metadata: What the file notes; what is no text, as JSON.

    Raises:
        InputError: If the network does what ONNX cannot say.
    """
    answer = _Answer(network, temperature).eval().to(memory_format=torch.contiguous_format)
    try:
        with _quiet():
            program = torch.onnx.export(
                answer,
                (torch.zeros(2, 1, 28, 28),),
                input_names=["images"],
                output_names=["logits", "probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("n")}},
            )
        assert program is not None
        model = program.model
        shape = model.graph.inputs[0].shape
        if shape is None or isinstance(shape[0], int):
            raise ValueError("it takes a certain number of images only.")
    except Exception as error:  # the user's code is traced, which may raise anything
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise InputError(
            f"{type(network).__name__} cannot be exported: {reason}",
            "Write its forward for any number of images, and without decisions by what they hold.",
        ) from error
    ClearMetadataAndDocStringPass()(model)  # of source files, and where they lie
    for name, value in metadata.items():
        is_text = isinstance(value, str)
        model.metadata_props[name] = value if is_text else json.dumps(value, separators=(",", ":"))
    content: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Swallow what the exporter tells its developers."""
    nowhere = io.StringIO()
    logging.disable()
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _options(args: list[str]) -> Namespace:
    parser = CommandParser("export", "Turn a checkpoint into one ONNX file, for read and Reader.")
    add = parser.add_argument
    ckpt_help = "The checkpoint, or best or last of the newest run."
    add("--ckpt_path", required=True, metavar="FILE|best|last", help=ckpt_help)
    output_help = "File to write or replace. Default: digits.onnx, if there is none yet."
    add("--output", type=_onnx_path, metavar="FILE", help=output_help)
    data_help = "Directory of the unpacked data. Default: the checkpoint's, or data."
    # The second name is that of fit and test, which error messages about data use.
    add("--data_dir", "--data.data_dir", metavar="DIR", help=data_help)
    options = parser.parse_args(args)
    if options.output is None:
        options.output = Path("digits.onnx")
        if options.output.exists():
            raise InputError(
                f"{options.output} exists already.", f"To replace it: --output {options.output}"
            )
    return options


def _onnx_path(text: str) -> Path:
    if Path(text).suffix != ".onnx":
        raise InputError(f"--output {text} is no name for a model.", "End it in .onnx.")
    return Path(text)


def _data(settings: dict[str, Any], data_dir: str | None) -> MNISTDataModule:
    data = instantiate(MNISTDataModule, settings | ({"data_dir": data_dir} if data_dir else {}))
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def _outputs(trained: Trained, dataset: Dataset[Batch], batch_size: int) -> tuple[Tensor, Tensor]:
    labels, logits = outputs(trained.model, dataset, batch_size)
    if not logits.isfinite().all():
        raise InputError(
            f"{trained.path} gives logits that are not numbers.",
            "Its training diverged: train again, perhaps with a lower learning rate.",
        )
    return labels, logits


def _accuracy(labels: Tensor, logits: Tensor) -> float:
    return float(logits.argmax(dim=1).eq(labels).double().mean())


def _provenance(trained: Trained) -> dict[str, Any]:
    network = trained.model.network
    return {
        "version": __version__,
        "network": f"{type(network).__module__}.{type(network).__qualname__}",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "labels": list(range(10)),
        "recipe": _recipe(trained),
        "seed": trained.config.get("seed_everything"),
        "checkpoint_sha256": sha256(trained.path),
    }


def _recipe(trained: Trained) -> dict[str, Any]:
    """The settings of the run, but for the trainer's defaults."""
    config = trained.config or {"model": dict(trained.model.hparams)}
    defaults = {name: each.default for name, each in signature(Trainer).parameters.items()}
    trainer = {
        name: value
        for name, value in config.get("trainer", {}).items()
        if value != defaults.get(name)
    }
    return _set(config | {"trainer": trainer})


def _set(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings that are set, without ``NO_RECIPE``."""
    return {
        name: _set(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if value is not None and name not in NO_RECIPE
    }


def _checked(path: Path, images: Tensor, expected: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Compare a model with its checkpoint, on all images and in batches of several sizes.

    Args:
        path: The model.
        images: ``uint8 (n, 28, 28)``.
        expected: The checkpoint's logits and probabilities, both ``float32 (n, 10)``.

    Returns:
        The largest difference of a logit, and that of a probability.
    """
    inputs = scaled(images).numpy()  # (n, 1, 28, 28)
    session = open_session(path.read_bytes())
    outputs = [session.run(["logits", "probabilities"], {"images": inputs[:n]}) for n in BATCHES]
    outputs.append(Reader(path).classify(inputs[:, 0]))
    differences = [_differences(output, expected) for output in outputs]
    others, *largest = np.max(differences, axis=0).tolist()  # NaN if one is
    for (name, allowed), difference in zip(TOLERANCES.items(), largest, strict=True):
        if others or not difference <= allowed:
            raise InputError(
                f"The exported model differs from the checkpoint in {others:,.0f} of "
                f"{len(images):,} predictions, and by up to {difference:.2g} in a {name}, where "
                f"{allowed:g} is allowed.",
                "No file was written. Does its forward depend on more than the image itself?",
            )
    return largest[0], largest[1]


def _differences(
    output: Sequence[NDArray[np.float32]], expected: tuple[Tensor, Tensor]
) -> tuple[int, float, float]:
    """Number of different predictions, and the largest differences, for the first images."""
    logits, probabilities = map(torch.from_numpy, output)
    same_logits, same_probabilities = (each[: len(logits)] for each in expected)
    others = int((logits.argmax(dim=1) != same_logits.argmax(dim=1)).sum())
    return (
        others,
        (logits - same_logits).abs().max().item(),
        (probabilities - same_probabilities).abs().max().item(),
    )
