"""Run directories on disk: found, read and compared, without torch."""
