"""Batch augmentations: handwriting, regional forms, and what is not a digit."""

from mnist_lit.augment.handwriting import Handwriting

__all__ = ["Handwriting"]
