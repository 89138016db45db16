"""The errors that xpnet raises. Each message is one line that says what is wrong and what to do."""


class XpnetError(Exception):
    """The request is valid but cannot be carried out: a GPU is missing, a file is damaged. Exit code 1."""


class UsageError(XpnetError, ValueError):
    """The request is not valid: a batch of -1 rows. Exit code 2."""


class FellBackWarning(RuntimeWarning):
    """Steps run eagerly where they should be captured. The results are the same; the steps take longer."""


class DivergedError(XpnetError):
    """Training diverged: the loss or a weight is no longer a finite number. Exit code 1."""
