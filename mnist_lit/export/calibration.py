"""Temperature scaling, and the probability below which a prediction is doubtful."""

import math

from torch import Tensor

CONFIDENT_SHARE = 0.99  # share of the validation digits above the threshold
MIN_THRESHOLD = 0.5  # below it, a digit is less probable than all the others together


def fitted_temperature(labels: Tensor, logits: Tensor) -> float:
    """Find the divisor of the logits that minimizes the mean negative log-likelihood.

    Guo et al., "On calibration of modern neural networks", 2017. The log-likelihood is concave
    in the inverse of the temperature, so bisection on the sign of its slope finds the maximum.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.

    Returns:
        From 0.1 to 10; the lower end if every prediction is correct.
    """
    logits = logits.double()
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    low, high = 0.1, 10.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        expected = ((logits / middle).softmax(dim=1) * logits).sum(dim=1)
        if (expected - own).mean() > 0:  # overconfident
            low = middle
        else:
            high = middle
    return round(middle, 6)


def default_threshold(logits: Tensor) -> float:
    """Return the probability that 99 % of the digits exceed, but at least one half.

    Predictions below it are doubtful. For a weak network the 1 % quantile alone would accept
    nearly everything.

    Args:
        logits: ``float32 (n, 10)`` of the validation images, divided by the temperature.
    """
    confidences: Tensor = logits.softmax(dim=1).amax(dim=1)
    return max(MIN_THRESHOLD, float(confidences.quantile(1 - CONFIDENT_SHARE)))
