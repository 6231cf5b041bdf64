"""Figures of digits, predictions and results."""
