"""Calibration: how probable it is that what a detector has found is a digit."""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from mnist_lit.detection.average_precision import matches, within
from mnist_lit.detection.pages.numbers import DigitImages
from mnist_lit.detection.pages.page import draw_page
from mnist_lit.reading.detector import Detector

PAGES = 300
SEED = 3  # of pages that differ from those of training, validation and test
FAINTEST = 0.05  # the least probability that is calibrated
FLATTEST = 0.1  # slope: what a detector is surer of is never less probable


def calibrated(detector: Detector, digits: DigitImages) -> tuple[float, float]:
    """Find slope and offset of the logit of the probability that maximize the likelihood.

    Platt, "Probabilistic outputs for support vector machines" (1999).

    Args:
        detector: Without calibration.
        digits: To write with; not those that it was trained on.

    Returns:
        1 and 0, which change nothing, if all that it finds is right, or wrong.
    """
    logits, hits = (torch.cat(each) for each in zip(*_outcomes(detector, digits), strict=True))
    if not 0 < hits.sum() < len(hits):
        return 1.0, 0.0
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = binary_cross_entropy_with_logits(weights[0] * logits + weights[1], hits)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    slope, offset = weights.tolist()
    return max(slope, FLATTEST), offset


def _outcomes(detector: Detector, digits: DigitImages) -> list[tuple[Tensor, Tensor]]:
    """Return for each page the logits of what was found and whether it is a digit."""
    outcomes = []
    for index in range(PAGES):
        page = draw_page(np.random.default_rng([SEED, index]), digits)
        found = detector.find(page.image, FAINTEST)
        boxes = torch.from_numpy(found.boxes)
        hits = matches(boxes, torch.from_numpy(page.boxes))
        counts = hits | ~within(boxes, torch.from_numpy(page.ignored))
        logits = torch.from_numpy(found.probabilities).double().logit(eps=1e-7)  # not infinite
        outcomes.append((logits[counts], hits[counts].double()))
    return outcomes
