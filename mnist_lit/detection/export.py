"""The command export: write a detector to one ONNX file, and verify that they agree."""

import io
import json
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn

from mnist_lit import __version__
from mnist_lit.augment.pen import VALIDATION_PEN
from mnist_lit.detection.boxes import box_maps
from mnist_lit.detection.calibration import calibrated
from mnist_lit.detection.checkpoints import verified_checkpoint
from mnist_lit.detection.data import PageDataModule, digit_images
from mnist_lit.detection.module import DigitDetector
from mnist_lit.detection.network import DetectionNetwork
from mnist_lit.errors import InputError
from mnist_lit.files import atomic_write, sha256
from mnist_lit.options import CommandParser, path_with, unused
from mnist_lit.reading.detector import Detector
from mnist_lit.reading.models import open_session

OUTPUTS = ("centers", "boxes")
SIZES = ((256, 256), (96, 96), (75, 163), (200, 40))  # verified: height and width
TOLERANCE = 1e-4  # of probabilities, and of boxes relative to their distance from the corner


class ExportedDetector(nn.Module):
    """The network, with probabilities and boxes instead of logits and logarithms.

    Args:
        network: In evaluation mode.
    """

    def __init__(self, network: DetectionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what a reader needs.

        Args:
            images: ``float32 (n, 1, h, w)`` in [0, 1].

        Returns:
            For each place, four pixels apart: the score of a digit's center in [0, 1], and its box
            (left, top, right, bottom in pixels): ``float32 (n, c, h / 4, w / 4)`` with 1 and 4
            channels.
        """
        maps = self.network(images)
        return maps.center.sigmoid(), box_maps(maps)


def main(args: list[str]) -> None:
    """Run ``export``.

    Raises:
        InputError: If the checkpoint is not a detector's, or the exported model differs from it.
    """
    parser = CommandParser("export", "Export a detector's checkpoint to a single ONNX file.")
    parser.prog = "python -m mnist_lit.detection export"
    add = parser.add_argument
    add("--ckpt_path", required=True, type=Path, metavar="FILE", help="Checkpoint to export.")
    output_help = "File to write or replace. Default: detector.onnx, if it does not exist yet."
    add("--output", type=path_with(".onnx"), metavar="FILE", help=output_help)
    data_help = "Directory of the unpacked MNIST, for the pages that calibrate probabilities."
    add("--data.data_dir", default="data", metavar="DIR", help=data_help)
    options = parser.parse_args(args[1:])
    options.output = options.output or unused(Path("detector.onnx"))
    network = trained_network(options.ckpt_path)
    parameters = sum(each.numel() for each in network.parameters())
    metadata = {
        "version": __version__,
        "network": "mnist_lit.detection.network.DetectionNetwork",
        "parameters": parameters,
        "checkpoint_sha256": sha256(options.ckpt_path),
    }
    data = PageDataModule(vars(options)["data.data_dir"])
    data.prepare_data()
    data.setup("validate")
    detector = Detector(onnx_model(network, {}))
    metadata["calibration"] = calibrated(detector, digit_images(data.mnist.val_set, VALIDATION_PEN))
    content = onnx_model(network, metadata)
    with atomic_write(options.output) as partial:
        difference = verified(network, content)
        partial.write_bytes(content)
    size = len(content) / 1000
    print(f"Detector: {options.output}, {size:,.0f} kB, {parameters:,} parameters")
    print(f"agreement      within {difference:.1g}, for pictures of {len(SIZES)} sizes")


def trained_network(path: Path) -> DetectionNetwork:
    """Load the network of a checkpoint, which may come from anyone.

    Raises:
        InputError: If the file is damaged or not a detector's.
    """
    checkpoint, settings = verified_checkpoint(path)
    detector = DigitDetector(**settings)
    detector.load_state_dict(checkpoint["state_dict"])
    return detector.network.eval()


def onnx_model(network: DetectionNetwork, metadata: dict[str, Any]) -> bytes:
    """Turn a network into the contents of an ONNX file, for any number and size of pictures.

    Args:
        network: In evaluation mode.
        metadata: Stored in the file; values other than text as JSON.
    """
    exported = ExportedDetector(network).eval().to(memory_format=torch.contiguous_format)
    n, height, width = (torch.export.Dim(name) for name in ("n", "height", "width"))
    nowhere = io.StringIO()
    logging.disable()
    try:
        with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                exported,
                (torch.rand(2, 1, 250, 190),),
                input_names=["images"],
                output_names=OUTPUTS,
                dynamic_shapes={"images": {0: n, 2: height, 3: width}},
            )
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None
    model = program.model
    ClearMetadataAndDocStringPass()(model)  # names and paths of source files
    for name, value in metadata.items():
        model.metadata_props[name] = value if isinstance(value, str) else json.dumps(value)
    content: bytes = onnx_ir.to_proto(model).SerializeToString(deterministic=True)
    return content


def verified(network: DetectionNetwork, content: bytes) -> float:
    """Compare the exported model with its network on pictures of several sizes.

    Returns:
        The largest difference.

    Raises:
        InputError: If it exceeds ``TOLERANCE``.
    """
    session, largest = open_session(content), 0.0
    for number, size in enumerate(SIZES, 1):
        images = torch.rand(number, 1, *size)
        with torch.inference_mode():
            expected = ExportedDetector(network)(images)
        outputs = session.run(OUTPUTS, {"images": images.numpy()})
        for found, wanted in zip(outputs, expected, strict=True):
            scale = np.maximum(np.abs(wanted.numpy()), 1)
            largest = max(largest, float((np.abs(found - wanted.numpy()) / scale).max()))
    if not largest <= TOLERANCE:
        raise InputError(
            f"The exported detector differs from the checkpoint by {largest:.2g}.",
            "No file was written. Its training may have diverged.",
        )
    return largest
