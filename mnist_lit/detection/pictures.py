"""Pictures of pages with boxes, for TensorBoard and the documentation."""

from typing import Any

import cv2
import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from mnist_lit.detection.boxes import Detections
from mnist_lit.detection.data import PageBatch

Picture = NDArray[Any]  # uint8; OpenCV's types do not say so

BLUE, VERMILION = (0, 114, 178), (213, 94, 0)  # distinguishable by color-blind people
SHOWN = 0.3  # least probability of a box that is drawn
GAP = 4  # pixels between pages


class ValidationPages(Callback):
    """Adds the first validation pages to TensorBoard: true boxes blue, those found vermilion."""

    def on_validation_batch_end(  # type: ignore[override]
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: dict[str, list[Detections]],
        batch: PageBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        logger = trainer.logger
        if batch_idx or trainer.sanity_checking or not isinstance(logger, TensorBoardLogger):
            return
        pages = []
        for image, boxes, found in zip(batch.images, batch.boxes, outputs["found"], strict=True):
            page = with_boxes(image[0].cpu().numpy(), boxes.cpu().numpy(), BLUE)
            sure = found.boxes[found.scores > SHOWN]
            pages.append(with_boxes(page, sure.cpu().numpy(), VERMILION))
        sheet, step = contact_sheet(pages, columns=4), trainer.global_step - 1
        logger.experiment.add_image("val/pages", sheet, step, dataformats="HWC")


def with_boxes(page: Picture, boxes: NDArray[Any], color: tuple[int, int, int]) -> Picture:
    """Return a page, ``(h, w)`` or ``(h, w, 3)``, with boxes ``(k, 4)``, as ``(h, w, 3)`` RGB."""
    drawn = cv2.cvtColor(page, cv2.COLOR_GRAY2RGB) if page.ndim == 2 else page.copy()
    for left, top, right, bottom in np.rint(boxes).astype(int).tolist():
        cv2.rectangle(drawn, (left - 1, top - 1), (right, bottom), color, 1)
    return drawn


def contact_sheet(pages: list[Picture], columns: int) -> Picture:
    """Put pages ``(h, w, 3)`` side by side, in rows."""
    border = (0, GAP, 0, GAP, cv2.BORDER_CONSTANT)
    framed = [cv2.copyMakeBorder(page, *border, value=(255, 255, 255)) for page in pages]
    blank = np.full_like(framed[0], 255)
    framed += [blank] * (-len(framed) % min(columns, len(framed)))
    rows = [np.concatenate(framed[i : i + columns], 1) for i in range(0, len(framed), columns)]
    return np.concatenate(rows)
