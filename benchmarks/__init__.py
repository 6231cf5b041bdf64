"""Measurements, each a script that is run from the root of the repository."""
