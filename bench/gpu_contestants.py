"""The runners of `gpu_speed.py`: ours in every library and manner, and what a user would pick instead.

A contestant is made for a `Setting`, begins from given weights, and runs epochs in a given order of the rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from contestants import torch_network

import xpnet
from xpnet.backends import Backend
from xpnet.errors import XpnetError
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

LR = 0.1


class LeftOut(Exception):  # noqa: N818
    """A contestant cannot take part here, and that is no failure."""


@dataclass(frozen=True)
class Setting:
    """What a contestant is made for.

    Attributes
    ----------
    sizes
        Units of every layer.
    m
        Rows in a step.
    X, y
        Rows of bytes, and their labels.
    chunk
        Steps that we hand to the library at a time, at most.
    """

    device: str
    sizes: tuple[int, ...]
    m: int
    X: np.ndarray
    y: np.ndarray
    chunk: int

    @property
    def steps(self) -> int:
        """Whole batches in an epoch."""
        return len(self.X) // self.m

    @property
    def network(self) -> str:
        """784-128-10."""
        return "-".join(map(str, self.sizes))


class Trainer:
    """A contestant at work."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        layers = range(1, len(setting.sizes))
        self.names = [f"{kind}{layer}" for layer in layers for kind in "Wb"]

    def begin(self, weights: dict[str, np.ndarray]) -> None:
        """Start anew from W1, b1, …"""
        raise NotImplementedError

    def epoch(self, index: np.ndarray, rates: np.ndarray) -> None:
        """Take a step with every row (m,) of `index`, at the rate beside it, and wait for the last."""
        raise NotImplementedError

    def weights(self) -> dict[str, np.ndarray]:
        """W1, b1, … on the host."""
        raise NotImplementedError

    def notes(self) -> dict[str, str]:
        """What else is worth knowing afterwards."""
        return {}


class Ours(Trainer):
    """Our own step, by the library's backend.

    Raises
    ------
    LeftOut
        The library does not drive the device, or has no such precision there.
    """

    def __init__(
        self, setting: Setting, library: str, steps: str = "auto", precision: str = "float32"
    ) -> None:
        super().__init__(setting)
        self.backend = our_backend(setting.device, library, steps, precision)
        self.asked = steps
        self.step = TrainingStep(self.backend.xp, Network(setting.sizes), SGD(), 255.0)
        self.state: dict[str, Any] = {}
        host = {"X": setting.X, "y": setting.y, "classes": np.arange(setting.sizes[-1], dtype=np.int32)}
        with self.backend.running("float32"):
            self.data = {name: self.backend.asarray(array) for name, array in host.items()}

    def begin(self, weights: dict[str, np.ndarray]) -> None:
        """As a run begins: with whatever compiles, or is recorded."""
        steps, m = self.setting.steps, self.setting.m
        with self.backend.running("float32"):
            self.state = {name: self.backend.asarray(array) for name, array in weights.items()}
            index, counters = self.pieces(np.zeros((steps, m), np.int32), np.zeros(steps, np.float32))[0]
            self.backend.warm_up(self.step, self.state | counters, index, self.data)

    def pieces(self, index: np.ndarray, rates: np.ndarray) -> list[tuple[Any, dict[str, Any]]]:
        """The chunks of an epoch and their counters, as `xpnet train` cuts and fills them, on the device."""
        asarray, found = self.backend.asarray, []
        count = -(-len(index) // self.setting.chunk)
        size = -(-len(index) // count)
        for start in range(0, len(index), size):
            falling = np.zeros(min(self.setting.chunk, self.setting.steps), np.float32)
            now = rates[start : start + size]
            falling[: len(now)] = now
            fresh = {"t": np.zeros(1, np.int32), "loss": np.zeros(1, np.float32), "rates": falling}
            counters = {name: asarray(array) for name, array in fresh.items()}
            found.append((asarray(index[start : start + size]), counters))
        return found

    def epoch(self, index: np.ndarray, rates: np.ndarray) -> None:
        """Scan the chunks, one after the other."""
        with self.backend.running("float32"):
            for part, counters in self.pieces(index, rates):
                self.state = self.backend.scan(self.step, self.state | counters, part, self.data)
            self.backend.synchronize(self.state)

    def weights(self) -> dict[str, np.ndarray]:
        """From the state."""
        with self.backend.running("float32"):
            return {name: np.array(self.backend.to_numpy(self.state[name])) for name in self.names}

    def notes(self) -> dict[str, str]:
        """How the steps ran.

        Raises
        ------
        RuntimeError
            Not as they were asked to.
        """
        backend = self.backend
        if self.asked not in ("auto", backend.steps):
            raise RuntimeError(f"steps ran {backend.steps}, not {self.asked}: {backend.steps_note}")
        return {"ran": backend.steps, "note": backend.steps_note, "precision": backend.precision}


def our_backend(device: str, library: str, steps: str, precision: str) -> Backend:
    """The backend; that it cannot be had is told from that it fails."""
    try:
        plain = xpnet.get_backend(device, library)
    except XpnetError as error:
        raise LeftOut(str(error)) from error
    if precision not in plain.precisions():
        raise LeftOut(f"{library} on {plain.device} has {', '.join(plain.precisions())}")
    return xpnet.get_backend(device, library, steps=steps, precision=precision)


class JaxScan(Trainer):
    """A whole epoch under `jit` and `lax.scan`, differentiated by JAX: the best code by hand."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        try:
            import jax
            import jax.numpy as jnp

            kind = "cpu" if setting.device == "cpu" else "gpu"
            self.device = jax.devices(kind)[index_of(setting.device)]
        except (ImportError, RuntimeError, IndexError) as error:
            raise LeftOut(f"no JAX for {setting.device}: {error}") from error
        self.jax = jax
        jax.config.update("jax_default_matmul_precision", "highest")
        self.data = jax.device_put((setting.X, setting.y.astype(np.int32)), self.device)
        self.parameters: Any = None

        def loss(parameters: Any, X: Any, y: Any) -> Any:
            for W, b in parameters[:-1]:
                X = jax.nn.relu(X @ W + b)
            W, b = parameters[-1]
            log_P = jax.nn.log_softmax(X @ W + b)
            return -jnp.mean(jnp.take_along_axis(log_P, y[:, None], axis=1))

        def run(parameters: Any, data: Any, index: Any, rates: Any) -> Any:
            def step(parameters: Any, now: Any) -> Any:
                rows, rate = now
                X = jnp.take(data[0], rows, axis=0, mode="clip").astype(jnp.float32) / 255
                y = jnp.take(data[1], rows, mode="clip")
                value, gradients = jax.value_and_grad(loss)(parameters, X, y)
                return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), value

            return jax.lax.scan(step, parameters, (index, rates))

        self.run = jax.jit(run, donate_argnums=0)

    def begin(self, weights: dict[str, np.ndarray]) -> None:
        """Move the weights."""
        pairs = list(zip(*[(weights[name] for name in self.names)] * 2, strict=True))
        self.parameters = self.jax.device_put(pairs, self.device)

    def epoch(self, index: np.ndarray, rates: np.ndarray) -> None:
        """One call."""
        moved, falling = self.jax.device_put((index, rates), self.device)
        self.parameters, _ = self.run(self.parameters, self.data, moved, falling)
        self.jax.block_until_ready(self.parameters)

    def weights(self) -> dict[str, np.ndarray]:
        """From the pairs."""
        flat = (np.array(array) for pair in self.parameters for array in pair)
        return dict(zip(self.names, flat, strict=True))


class TorchEager(Trainer):
    """Autograd and torch.optim on tensors that are on the device and scaled, as its tutorials teach."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        try:
            import torch
        except ImportError as error:
            raise LeftOut(f"no PyTorch: {error}") from error
        if setting.device != "cpu":
            if not torch.cuda.is_available():
                raise LeftOut("this PyTorch sees no CUDA device")
            torch.cuda.set_device(index_of(setting.device))
        torch.set_float32_matmul_precision("highest")
        self.torch: Any = torch
        self.device = setting.device
        self.X = torch.from_numpy(setting.X).to(self.device).float() / 255
        self.y = torch.from_numpy(setting.y).to(self.device).long()
        self.net = torch_network(setting.sizes).to(self.device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=LR)

    def begin(self, weights: dict[str, np.ndarray]) -> None:
        """Into the parameters, in place; a Linear holds W transposed."""
        with self.torch.no_grad():
            for parameter, name in zip(self.net.parameters(), self.names, strict=True):
                parameter.copy_(self.torch.from_numpy(weights[name].T))

    def epoch(self, index: np.ndarray, rates: np.ndarray) -> None:
        """A step a batch."""
        batches, before = self.torch.from_numpy(index).to(self.device).long(), math.nan
        for rows, rate in zip(batches, rates.tolist(), strict=True):
            if rate != before:
                self.write(rate)
                before = rate
            self.step(rows)
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def write(self, rate: float) -> None:
        """Set the learning rate."""
        self.optimizer.param_groups[0]["lr"] = rate

    def step(self, rows: Any) -> None:
        """Take one step."""
        self.optimizer.zero_grad()
        self.torch.nn.functional.cross_entropy(self.net(self.X[rows]), self.y[rows]).backward()
        self.optimizer.step()

    def weights(self) -> dict[str, np.ndarray]:
        """From the parameters."""
        arrays = (parameter.detach().cpu().numpy().T.copy() for parameter in self.net.parameters())
        return dict(zip(self.names, arrays, strict=True))


class TorchCompiled(TorchEager):
    """The whole step under torch.compile, in the mode that its tutorial shows for training."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        torch = self.torch
        torch.compiler.reset()  # what was compiled for another batch size
        self.rate = torch.tensor(LR, device=self.device)  # a number would be compiled in
        optimizer = torch.optim.SGD(self.net.parameters(), lr=self.rate)

        def train(net: Any, X: Any, y: Any) -> None:
            optimizer.zero_grad(True)
            torch.nn.functional.cross_entropy(net(X), y).backward()
            optimizer.step()

        self.compiled = torch.compile(train, mode="reduce-overhead", dynamic=False)

    def write(self, rate: float) -> None:
        """On the device."""
        self.rate.fill_(rate)

    def step(self, rows: Any) -> None:
        """Take one step."""
        self.compiled(self.net, self.X[rows], self.y[rows])


class TorchGraph(TorchEager):
    """Forward, backward and the optimizer's step as one captured graph: PyTorch's own recipe.

    See "Whole-network capture" in its notes on CUDA semantics. The static input is a batch of row numbers,
    and the rows are taken within the graph, which spares calls.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        torch = self.torch
        self.rate = torch.tensor(LR, device=self.device)
        # of SGD's three implementations, the one that reads its rate on the device
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=self.rate, fused=True)
        self.rows = torch.zeros(setting.m, dtype=torch.int64, device=self.device)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.optimizer.zero_grad(set_to_none=True)
                self.train()
        torch.cuda.current_stream().wait_stream(side)

        self.graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(self.graph):
            self.loss = self.train()

    def train(self) -> Any:
        """What is captured."""
        loss = self.torch.nn.functional.cross_entropy(self.net(self.X[self.rows]), self.y[self.rows])
        loss.backward()
        self.optimizer.step()
        return loss

    def write(self, rate: float) -> None:
        """On the device."""
        self.rate.fill_(rate)

    def step(self, rows: Any) -> None:
        """Fill the input and replay."""
        self.rows.copy_(rows)
        self.graph.replay()


JAX_SCAN, TORCH_EAGER, CUPY_CAPTURED = "JAX lax.scan", "PyTorch eager", "xpnet cupy captured"
Make = Callable[[Setting], Trainer]

MAIN: dict[str, Make] = {
    "xpnet cupy eager": partial(Ours, library="cupy", steps="eager"),
    CUPY_CAPTURED: partial(Ours, library="cupy", steps="captured"),
    "xpnet torch eager": partial(Ours, library="torch", steps="eager"),
    "xpnet torch captured": partial(Ours, library="torch", steps="captured"),
    "xpnet jax": partial(Ours, library="jax"),
    JAX_SCAN: JaxScan,
    TORCH_EAGER: TorchEager,
    "torch.compile": TorchCompiled,
    "PyTorch graph": TorchGraph,
}

EXTRAS: dict[str, Make] = {
    f"xpnet {library} {precision}": partial(Ours, library=library, precision=precision)
    for library in ("cupy", "torch", "jax")
    for precision in ("float32", "tf32", "bf16")
}
"""Ours in every precision, with the steps that are the default; float32 on the large network alone."""

CONTESTANTS = MAIN | EXTRAS
ONLY_CUDA = ("cupy", "captured", "torch.compile", "graph")
"""What a contestant's name has in it that cannot take part on a CPU."""


def index_of(device: str) -> int:
    """1 of "cuda:1"."""
    return int(device.partition(":")[2] or 0)


def is_ours(contestant: str) -> bool:
    """Whether a failure is ours."""
    return contestant.startswith("xpnet")
