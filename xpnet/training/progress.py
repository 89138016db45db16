"""How a run reports on itself while it trains."""

from xpnet.training.history import History


class Progress:
    """The reports of a run. Override the methods that you need.

    They are called while the settings of the library's computation are in force, such as PyTorch without
    autograd. An exception that one of them raises ends the run.
    """

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Called before the first step, with the epochs done so far, the rows in an epoch, and all epochs."""

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        """Called after some steps of an epoch: with their number of rows, and the mean loss over those."""

    def on_epoch(self, history: History) -> bool | None:
        """Called after an epoch and its checkpoint. `model.parameters` are those at the end of the epoch.

        Return True to end the run here.
        """
        return None
