"""Find, load and compare run directories on disk, without torch."""
