"""Digits and results as figures."""
