"""The exception for what a user can mend, and its kinds that a server tells apart."""


class InputError(Exception):
    """A mistake in what the program was given: its first line says what, its second what to do.

    The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, what: str, what_to_do: str) -> None:
        super().__init__(f"{what}\n{what_to_do}")


class TooLargeError(InputError):
    """A picture with more pixels than are read."""


class UnknownFormatError(InputError):
    """What is no picture of a known format."""
