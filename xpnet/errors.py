"""The errors that a user meets: one line each, saying what is wrong and what to do."""


class XpnetError(Exception):
    """The world does not allow what was asked for: a missing GPU, a bad file. Exit code 1."""


class UsageError(XpnetError, ValueError):
    """The request itself cannot be meant: a batch of -1 rows. Exit code 2."""


class FellBackWarning(RuntimeWarning):
    """Steps run eager on a device where they should be captured: right, but slower."""


class DivergedError(XpnetError):
    """The loss or a weight is no longer a finite number. Exit code 1."""
