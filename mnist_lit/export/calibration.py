"""What makes a model's probabilities honest, and from where on they are doubtful."""

import math

from torch import Tensor

SURE = 0.99  # share of the digits that are not doubtful
LEAST = 0.5  # threshold: below it a digit is less probable than all the others together


def fitted_temperature(labels: Tensor, logits: Tensor) -> float:
    """Find the divisor of the logits that makes the mean negative log-likelihood least.

    Guo et al., "On calibration of modern neural networks", 2017. The likelihood is concave in the
    inverse of the temperature: halving the interval in which its slope changes sign finds it.

    Args:
        labels: ``int64 (n,)`` in 0..9.
        logits: ``float32 (n, 10)``.

    Returns:
        From 0.1 to 10. The least is not attained where every digit is read right.
    """
    logits = logits.double()
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    low, high = 0.1, 10.0
    for _ in range(40):
        middle = math.sqrt(low * high)
        expected = ((logits / middle).softmax(dim=1) * logits).sum(dim=1)
        if (expected - own).mean() > 0:  # too sure of itself
            low = middle
        else:
            high = middle
    return round(middle, 6)


def default_threshold(logits: Tensor) -> float:
    """The probability that 99 % of the digits exceed, or one half; a less probable one is doubtful.

    What is less probable than all other digits together is doubtful, however bad the network is:
    the 99 % of a weak one would let pass nearly everything.

    Args:
        logits: ``float32 (n, 10)``, of validation images, divided by the temperature.
    """
    confidences: Tensor = logits.softmax(dim=1).amax(dim=1)
    return max(LEAST, float(confidences.quantile(1 - SURE)))
