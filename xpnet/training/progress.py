"""What a training run tells while it runs."""

from xpnet.training.history import History


class Progress:
    """Override what you want to hear.

    It is called while the library's settings of a computation are held: torch without autograd, say.
    """

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Before the first step: the epochs already done, the rows of an epoch, and all epochs."""

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        """After some steps of an epoch: their rows, and the mean loss over them."""

    def on_epoch(self, history: History) -> None:
        """After an epoch and its checkpoint."""
