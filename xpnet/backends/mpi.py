"""The processes of one run: which of them this is, and what they tell one another by MPI, in host memory.

A launcher, such as ``mpiexec -n 4`` or ``srun``, starts the same command several times, and MPI lets the
processes find each other. Every method is a call of all processes together: each waits for the others. A
process by itself imports no MPI, and its calls return what they are given.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf
from typing import Any, TypeVar

import numpy as np

from xpnet.errors import UsageError, XpnetError

LAUNCHED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS")
"""Variables in which launchers say how many processes they have started. The first one that is set counts."""

STALL = "XPNET_STALL_SECONDS"
"""The variable that sets after how many seconds a process is reported that keeps the others waiting."""

INSTALL = "pip install mpi4py mpich (or mpi4py alone, where a cluster has an MPI of its own)"

Result = TypeVar("Result")


class Group:
    """The processes of a run.

    Parameters
    ----------
    comm
        Their communicator of mpi4py; None for one process by itself.

    Attributes
    ----------
    rank, size
        The number of this process, from 0, and how many there are.
    local_rank, local_size
        The same among the processes of this machine.
    """

    def __init__(self, comm: Any = None) -> None:
        self.comm = comm
        self.rank: int = comm.rank if comm else 0
        self.size: int = comm.size if comm else 1
        self.local_rank, self.local_size = 0, 1
        self._calls, self._since = 0, inf
        if comm:
            from mpi4py import MPI

            self._in_place = MPI.IN_PLACE
            local = comm.Split_type(MPI.COMM_TYPE_SHARED)
            self.local_rank, self.local_size = local.rank, local.size
            local.Free()
            if MPI.Query_thread() == MPI.THREAD_MULTIPLE:
                threading.Thread(target=self._watch, args=[comm.Dup(), _stall()], daemon=True).start()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that this process waits for the others, which is reported if it takes too long."""
        self._calls, self._since = self._calls + 1, time.monotonic()
        try:
            yield
        finally:
            self._since = inf

    def _watch(self, comm: Any, limit: float) -> None:
        """Report, in a thread, which processes have kept the others waiting for `limit` seconds.

        Who has waited for half as long tells all others, and who has not told by the end stands still.
        """
        told = reported = 0
        waiting: dict[int, int] = {}
        while True:
            time.sleep(min(limit / 8, 1.0))
            calls, waited = self._calls, time.monotonic() - self._since
            if waited > limit / 2 and told < calls:
                told = calls
                for other in set(range(self.size)) - {self.rank}:
                    comm.isend((self.rank, calls), other)
            while comm.iprobe():
                rank, call = comm.recv()
                waiting[rank] = call
            if waited > limit and reported < calls == self._calls:
                reported = calls
                still = [n for n in range(self.size) if n != self.rank and waiting.get(n) != calls]
                if all(n in still for n in range(self.rank)):  # the first that waits speaks for all
                    who = ", ".join(map(str, still)) or "none"
                    said = f"the others have waited {limit:g} s ({STALL}) for process {who} of {self.size}"
                    print(f"xpnet: {said}", file=sys.__stderr__, flush=True)

    def sum(self, x: np.ndarray) -> np.ndarray:
        """Add up an array over all processes, in its own memory. Every process gets the same bits."""
        if self.comm:
            with self.waiting():
                self.comm.Allreduce(self._in_place, x)
        return x

    def first(self, call: Callable[[], Result]) -> Result:
        """Call a function in the first process alone, and give its result to all.

        If it raises an error that users may meet, all processes raise it.
        """
        if not self.comm:
            return call()
        found: Any = None
        if self.rank == 0:
            try:
                found = call()
            except (XpnetError, OSError, MemoryError) as error:
                found = error
        with self.waiting():
            found = self.comm.bcast(found)
        if isinstance(found, BaseException):
            raise found
        result: Result = found
        return result

    def all(self, value: Result) -> list[Result]:
        """The values of all processes, in their order."""
        if not self.comm:
            return [value]
        with self.waiting():
            found: list[Result] = self.comm.allgather(value)
        return found

    def exchange(self, rows: Sequence[np.ndarray], counts: Sequence[int]) -> list[np.ndarray]:
        """Send rows to every process, and receive some from every process: `counts` says how many."""
        one = rows[0]
        sent = np.concatenate(rows)
        found = np.empty((sum(counts), *one.shape[1:]), one.dtype)
        row = one.dtype.itemsize * int(np.prod(one.shape[1:]))
        with self.waiting():
            self.comm.Alltoallv(
                (sent.view(np.uint8), [len(part) * row for part in rows]),
                (found.view(np.uint8), [count * row for count in counts]),
            )
        return np.split(found, np.cumsum(counts)[:-1])

    def part(self, rows: np.ndarray, rank: int | None = None) -> np.ndarray:
        """The part of every batch that is a process's.

        Parameters
        ----------
        rows : (steps, batch_size)
            Row numbers.
        rank
            Of which process; None for this one.

        Returns
        -------
        rows : (steps, ceil(batch_size / size))
            All parts have the same shape, and are filled up with -1.
        """
        m = rows.shape[1]
        width, rank = -(-m // self.size), self.rank if rank is None else rank
        part = rows[:, rank * width : (rank + 1) * width]
        return np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1)

    def abort(self, code: int) -> None:
        """End all processes at once with an exit code. It does not return if there are others."""
        if self.comm:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would add a line to ours
            self.comm.Abort(code)


@cache
def joined() -> Group:
    """Find the processes that a launcher has started together with this one.

    Raises
    ------
    XpnetError
        There are several, but MPI does not find them, because it is missing or is not the launcher's.
    """
    told = [os.environ[name] for name in LAUNCHED if os.environ.get(name, "").isdecimal()]
    started = int(told[0]) if told else 1
    if started < 2 and "mpi4py.MPI" not in sys.modules:
        return Group()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise XpnetError(
            f"{started} processes were started, but MPI is missing ({error}): {INSTALL}"
        ) from error
    if started > 1 and MPI.COMM_WORLD.size == 1:
        hint = "start them by the mpiexec of mpi4py's MPI or by srun --mpi=pmi2, or one alone by mpiexec -n 1"
        raise XpnetError(f"this is one of {started} processes, but MPI finds no other: {hint}")
    return Group(MPI.COMM_WORLD.Dup() if MPI.COMM_WORLD.size > 1 else None)


def free_address() -> str:
    """The name of this machine and a free port of it, where libraries of arrays let their processes meet."""
    with socket.socket() as free:
        free.bind(("", 0))
        return f"{socket.gethostname()}:{free.getsockname()[1]}"


def _stall() -> float:
    try:
        seconds = float(os.environ.get(STALL, 60))
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise UsageError(f"{STALL} must be a number of seconds, not {os.environ[STALL]!r}")
    return seconds
