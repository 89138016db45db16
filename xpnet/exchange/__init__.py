"""Models go to other programs and come from them: ONNX, PyTorch, NumPy.

Every format has a file of its own here: ``write(model, path)`` and, where it can be imported, ``read(path)``.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from xpnet.arguments import choice, instance
from xpnet.backends import Backend, get_backend
from xpnet.errors import XpnetError
from xpnet.files import FilePath
from xpnet.model import MLP, made_of

SUFFIXES = {"onnx": ".onnx", "torch": ".safetensors", "npz": ".npz"}
"""The formats, and how the names of their files end."""


def export(model: MLP, path: FilePath, to: str | None = None) -> None:
    """Write a network for another program.

    Parameters
    ----------
    path
        The file, which is replaced if it is there.
    to
        "onnx": a graph that takes rows as they come and answers with labels and probabilities, or numbers.
        "torch": the ``state_dict`` of ``nn.Sequential(Linear, activation, Linear, …)``, as safetensors.
        "npz": W1, b1, … as NumPy's archive. By default the suffix of the file tells: .onnx, .safetensors or
        .npz.

    Raises
    ------
    UsageError
        The format is unknown.
    XpnetError
        The file cannot be written, or the library of the format is not installed.
    """
    instance("model", model, MLP, "an xpnet.MLP")
    to = choice("to", _format(path) if to is None else to, SUFFIXES)
    import_module(f"xpnet.exchange.{to}").write(model, path)


def import_model(
    path: FilePath, *, device: str | None = None, backend: str | Backend | None = None, **described: Any
) -> MLP:
    """Read a network that another program wrote, or that `export` did.

    Parameters
    ----------
    path
        A .safetensors file with a ``state_dict`` of PyTorch, or an .npz file with W1, b1, …
    device, backend
        As for `xpnet.load`.
    **described
        What the file does not say, as for `xpnet.MLP`: ``activation="tanh"``, ``loss="squared-error"``,
        ``class_names=…``, ``scale=255.0``. It wins over what the file does say. A file of another program
        says nothing: by default it is taken for relu and cross-entropy.

    Raises
    ------
    XpnetError
        The file is missing, of another format, damaged, or holds something else than the layers of a network.
    """
    name = _format(path)
    if name not in ("npz", "torch"):
        forms = "a .safetensors file, as safetensors.torch.save_file(net.state_dict(), …) writes it"
        raise XpnetError(f"{path}: cannot be imported; give {forms}, or an .npz file with W1, b1, …")
    backend = backend if isinstance(backend, Backend) else get_backend(device, backend)
    return made_of(path, import_module(f"xpnet.exchange.{name}").read(path) | described, backend)


def _format(path: FilePath) -> str:
    instance("path", path, (str, Path), "a path")
    return next((name for name, suffix in SUFFIXES.items() if suffix == Path(path).suffix.lower()), "")
