"""Batch augmentations: handwriting, regional forms, and what is not a digit."""

import torch
from torch import Tensor, nn

from mnist_lit.augment.handwriting import Handwriting
from mnist_lit.errors import InputError, first_line, place

__all__ = ["Handwriting", "apply"]


def apply(augmentation: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Augment a batch, and check the result.

    Args:
        augmentation: As ``DigitClassifier`` takes it.
        images: ``float32 (n, 1, 28, 28)`` in [0, 1].
        labels: ``int64 (n,)`` in 0..9.

    Returns:
        ``float32 (m, 1, 28, 28)``, and targets: labels ``(m,)`` or probabilities ``(m, 10)``.

    Raises:
        InputError: If it fails, or returns something else.
    """
    name = type(augmentation).__name__
    contract = (
        "It must take float images (n, 1, 28, 28) and labels (n,), and return both; the labels "
        "may become probabilities (n, 10)."
    )
    try:
        images, targets = augmentation(images, labels)
        given = [(tuple(each.shape), each.dtype) for each in (images, targets)]
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"The augmentation {name} fails{place(error)}: {first_line(error)}"
        raise InputError(what, contract) from error
    n = len(images)
    if given[0] != ((n, 1, 28, 28), torch.float32) or given[1] not in (
        ((n,), torch.int64),
        ((n, 10), torch.float32),
    ):
        raise InputError(f"The augmentation {name} returns {given}.", contract)
    if n < len(labels):
        what = f"The augmentation {name} returns {n} of {len(labels)} images."
        raise InputError(what, "It may add images, but not remove any.")
    # On a GPU, looking at values would wait for them.
    if targets.ndim == 1 and targets.is_cpu and not ((targets >= 0) & (targets <= 9)).all():
        raise InputError(f"The augmentation {name} returns labels outside 0 to 9.", contract)
    return images, targets
