"""Where a fitted network is: it moves to other devices and libraries, and through pickles."""

from typing import Any

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from xpnet.backends import Backend
from xpnet.estimators.places import asked, place, same
from xpnet.model import MLP
from xpnet.nn.typing import State


class Travelling(BaseEstimator):
    """The methods of an estimator that move its network."""

    model_: MLP
    _memory: State
    _home: str
    _host_rows: bool

    def to(self, device: str | None = None, backend: str | Backend | None = None) -> Any:
        """Move the fitted network to another device or library, as `xpnet.MLP.to` does.

        Rows are then taken from there, and still from the host if the fit took them from there.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        self._move(asked(None, self.model_.to(device, backend).backend))
        self._host_rows = self._host_rows or self.model_.backend.name == "numpy"
        return self

    def _settle(self, there: Backend | None, backend: Backend, method: str) -> None:
        """Go where a method is to compute, if rows may come from where they are.

        They must be where those of the fit were. But a network that comes out of a pickle is on the host,
        and goes back to where it was fitted when it meets rows from there.
        """
        ours = self.model_.backend
        back = there is not None and place(there) == getattr(self, "_home", None)
        if not (self._host_rows if there is None else same(there, ours) or back):
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same "
                f"device as those passed to fit(). The network is on {place(ours)}, X is on {place(there)}: "
                "bring X there, or move the network with .to(device=..., backend=...)."
            )
        if not same(backend, ours):
            self._move(backend)

    def _move(self, backend: Backend) -> None:
        """Move all that `fit` left behind."""
        ours, self.model_ = self.model_.backend, self.model_.to(backend=backend)
        if hasattr(self, "_memory"):
            with ours.running(self.model_.dtype), backend.running(self.model_.dtype):
                host = {name: ours.to_numpy(array) for name, array in self._memory.items()}
                self._memory = {name: backend.asarray(array) for name, array in host.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle host arrays, which every machine can load."""
        state = dict(super().__getstate__())
        if not hasattr(self, "model_") or self.model_.backend.name == "numpy":
            return state
        moved = object.__new__(type(self))
        moved.__dict__.update(state)
        moved._move(asked(None, None))
        return {**moved.__dict__, "_home": place(self.model_.backend), "_host_rows": True}
