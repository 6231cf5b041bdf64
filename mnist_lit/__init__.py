"""Handwritten digits, trained, judged and used: a PyTorch Lightning experiment on MNIST."""

__version__ = "0.1.0"
