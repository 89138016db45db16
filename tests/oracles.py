"""What the mathematics of a step is compared with: definitions, slopes by differences, and two autograds."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.states import Host, fetch, move
from xpnet.backends import Backend
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.nn.optimizers import Optimizer

each_loss = pytest.mark.parametrize("name", LOSSES)
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])

H = 1e-5
"""Half the width of a central difference, whose own error is then about 1e-10."""


def on(backend: Backend, f: Callable[..., Any], *static: Any, **host: Any) -> Any:
    """Compute ``f(xp, *static, **arrays)`` on a library, from host arrays to host arrays.

    Arrays may come in dicts and tuples. `state` and `gradients` belong to `f`; the others must be left as
    they were. JAX compiles `f` as a whole, because it would take longer to compile each operation.
    """
    arrays = _mapped(lambda x: backend.asarray(np.array(x)), host)
    if backend.name == "jax":
        f = backend.module.jit(f, static_argnums=tuple(range(len(static) + 1)))
    found = _mapped(lambda x: np.array(backend.to_numpy(x)), f(backend.xp, *static, **arrays))
    for name in host.keys() - {"state", "gradients"}:
        _mapped(lambda x, y: np.testing.assert_array_equal(backend.to_numpy(x), y), arrays[name], host[name])
    return found


def _mapped(f: Callable[..., Any], *trees: Any) -> Any:
    if isinstance(trees[0], dict):
        return {key: _mapped(f, *(tree[key] for tree in trees)) for key in trees[0]}
    return tuple(map(f, *trees)) if isinstance(trees[0], tuple) else f(*trees)


def scanned(backend: Backend, step: Any, state: Host, batches: Any, data: Host) -> Host:
    """Scan a step over batches, from host arrays to host arrays."""
    rows = backend.asarray(np.array(batches, dtype=np.int32))
    return fetch(backend, backend.scan(step, move(backend, state), rows, move(backend, data)))


def differences(f: Callable[[], float], x: np.ndarray) -> np.ndarray:
    """The slope of f() by every entry of `x`, which is changed in place and restored."""
    slopes = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + H
        above = f()
        x[i] = kept - H
        slopes[i] = (above - f()) / (2 * H)
        x[i] = kept
    return slopes


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    """Compare relative to the largest number, or to 0.01 where all are smaller."""
    scale = max(abs(np.asarray(expected)).max(), 0.01)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale, strict=True)


def draw_targets(rng: Generator, name: str, m: int, k: int) -> np.ndarray:
    """Draw targets (m, k) as the loss takes them; a third of the counts are 0."""
    if name == "cross-entropy":
        return np.eye(k)[rng.integers(0, k, m)]
    if name == "squared-error":
        return 3 * rng.standard_normal((m, k))
    counts = rng.integers(0, 3, (m, k)) * rng.uniform(0.1, 5, (m, k))
    return counts if name == "poisson" else 1.0 * (counts > 1)


def exact_losses(name: str, Z: np.ndarray, T: np.ndarray) -> Any:
    """The losses of the rows from their definitions, in the 64 bits of the long double."""
    Z, T = Z.astype(np.longdouble), T.astype(np.longdouble)
    if name == "cross-entropy":
        return np.log1p(np.sum(np.exp(Z - Z[T == 1][:, None]) * (1 - T), axis=1))
    if name == "binary-cross-entropy":
        return np.sum(np.logaddexp(0, (1 - 2 * T) * Z), axis=1)
    if name == "squared-error":
        return np.sum((Z - T) ** 2, axis=1) / 2
    D = Z - np.log(np.where(T > 0, T, 1))
    return np.sum(np.where(T > 0, T * (np.expm1(D) - D), np.exp(Z)), axis=1)


def textbook(functions: Any, name: str, Z: Any, T: Any, shares: Any) -> tuple[Any, Any]:
    """The weighted sum of the losses of the rows, and the losses, in the functions of another library."""
    log_softmax, log_sigmoid, exp, xlogy = functions
    losses: Any = {
        "cross-entropy": lambda: -T * log_softmax(Z, -1),
        "binary-cross-entropy": lambda: -T * log_sigmoid(Z) - (1 - T) * log_sigmoid(-Z),
        "squared-error": lambda: (Z - T) ** 2 / 2,
        "poisson": lambda: exp(Z) - T * Z + xlogy(T, T) - T,
    }[name]().sum(1)
    return (shares * losses).sum(), losses


def by_torch(name: str, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The losses of the rows of Z, T, shares, and the gradient of their weighted sum by Z."""
    import torch

    f = torch.log_softmax, torch.nn.functional.logsigmoid, torch.exp, torch.xlogy
    Z, T, shares = (torch.tensor(array, requires_grad=array is arrays[0]) for array in arrays)
    with torch.enable_grad():
        total, losses = textbook(f, name, Z, T, shares)
        (dZ,) = torch.autograd.grad(total, Z)
    return losses.detach().numpy(), dZ.numpy()


@cache
def _jax_gradient(name: str) -> Any:
    from jax import grad, jit, nn, numpy
    from jax.scipy.special import xlogy

    f = nn.log_softmax, nn.log_sigmoid, numpy.exp, xlogy
    return jit(grad(lambda *arrays: textbook(f, name, *arrays), has_aux=True))


def by_jax(name: str, *arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same by JAX."""
    import jax

    with jax.enable_x64(True):
        dZ, losses = _jax_gradient(name)(*arrays)
    return np.asarray(losses), np.asarray(dZ)


autograds = (by_torch, by_jax)


def objective(functions: Any, f: Any, network: Network, name: str, parameters: Any, **given: Any) -> Any:
    """The weighted loss of a network of the activations `f`, in the functions of another library."""
    A, masks = given["X"], given["masks"]
    for l in range(network.depth):
        A = f[network.activations[l - 1]](A) if l else A
        A = (A * masks[l] if l in masks else A) @ parameters[f"W{l + 1}"] + parameters[f"b{l + 1}"]
    return textbook(functions, name, A, given["T"], given["shares"])[0]


def network_by_torch(network: Network, name: str, parameters: Host, **given: Any) -> tuple[float, Host]:
    """The loss of a network for X, T, shares and masks, and its gradient by the parameters."""
    import torch

    f = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": torch.clone}
    functions = torch.log_softmax, torch.nn.functional.logsigmoid, torch.exp, torch.xlogy
    leaves = {key: torch.tensor(array, requires_grad=True) for key, array in parameters.items()}
    masks = {l: torch.tensor(mask) for l, mask in given.pop("masks", {}).items()}
    with torch.enable_grad():
        tensors = {key: torch.tensor(array) for key, array in given.items()}
        loss = objective(functions, f, network, name, leaves, masks=masks, **tensors)
        found = torch.autograd.grad(loss, list(leaves.values()))
    return loss.item(), {key: array.numpy() for key, array in zip(leaves, found, strict=True)}


def network_by_jax(network: Network, name: str, parameters: Host, **given: Any) -> tuple[float, Host]:
    """The same by JAX, without masks."""
    import jax
    from jax import nn, numpy
    from jax.scipy.special import xlogy

    f = {"relu": nn.relu, "tanh": numpy.tanh, "sigmoid": nn.sigmoid, "identity": numpy.asarray}
    functions = nn.log_softmax, nn.log_sigmoid, numpy.exp, xlogy
    with jax.enable_x64(True):
        loss, found = jax.value_and_grad(
            lambda leaves: objective(functions, f, network, name, leaves, masks={}, **given)
        )(parameters)
    return float(loss), {key: np.asarray(array) for key, array in found.items()}


def draw_step(rng: Generator, name: str, network: Network, optimizer: Optimizer) -> tuple[Host, Host]:
    """Draw 17 rows of data without the optional parts, and the state before the first of 10 steps."""
    k = network.sizes[-1]
    T, X = draw_targets(rng, name, 17, k), rng.standard_normal((17, network.sizes[0]))
    y = T.argmax(axis=1).astype(np.int32) if name == "cross-entropy" else T
    state: Host = {key: 0.5 * rng.standard_normal(shape) for key, shape in network.shapes.items()}
    state |= optimizer.memory(np, state) | {key: np.zeros(1, np.int32) for key in ("t", "step")}
    state |= {"loss": np.zeros(1), "rates": np.full(10, 0.1)}
    return {"X": X, "y": y, "classes": np.arange(k, dtype=np.int32)}, state
