"""The walls of the house: who imports whom, who names a library, what an import loads, what a wheel holds."""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import xpnet
from tests.process import python
from xpnet.backends import LIBRARIES, backend_class

PACKAGE = Path(xpnet.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
MATHEMATICS = [source for source in SOURCES if source.startswith("nn/")]

# what each room may import besides itself; "xpnet" stands for the version that __init__.py holds
ROOMS = {
    "nn": set[str](),
    "errors": set[str](),
    "arguments": {"errors"},
    "backends": {"arguments", "errors"},
    "schema": {"arguments", "errors"},
    "files": {"arguments", "schema", "errors"},
    "data": {"arguments", "files", "errors"},
    "arrays": {"nn", "backends", "arguments", "errors"},
    "scaling": {"nn", "data"},
    "model_file": {"nn", "arguments", "arrays", "files", "schema", "scaling", "errors"},
    "model": {"nn", "backends", "arguments", "arrays", "data", "files", "scaling", "model_file", "errors"},
    "training": {
        *("nn", "backends", "arguments", "arrays", "data", "files", "schema", "scaling", "model_file"),
        *("errors", "model"),
    },
    "runs": {"data", "files", "schema", "errors", "training"},
    "parity": {"nn", "backends", "data", "files", "errors", "model", "training", "xpnet"},
    "estimators": {"nn", "backends", "arrays", "errors", "model", "training"},
    "exchange": {
        *("nn", "backends", "arguments", "arrays", "data", "files", "schema", "scaling", "model_file"),
        *("errors", "model", "xpnet"),
    },
    "page": {
        *("nn", "backends", "arguments", "arrays", "data", "files", "schema", "errors", "model", "training"),
        "runs",
    },
    "cli": {
        *("nn", "backends", "data", "files", "schema", "errors", "model", "training", "parity", "exchange"),
        *("runs", "page", "xpnet"),
    },
    "__main__": {"cli"},
}

# the names under which each library is imported or chosen; NumPy may be named anywhere outside nn
ROOTS = {name: {backend_class(name).library.partition(".")[0], name} for name in LIBRARIES if name != "numpy"}
ROOTS["dpnp"] |= {"dpctl"}
ROOTS["jax"] |= {"jaxlib"}
FOREIGN = set[str]().union(*ROOTS.values())


@cache
def nodes(source: str) -> list[ast.AST]:
    """Every node of a file."""
    return list(ast.walk(ast.parse((PACKAGE / source).read_text(encoding="utf-8"))))


def room_of(source: str) -> str:
    """The room that a file belongs to."""
    return source.partition("/")[0].removesuffix(".py")


def home_of(library: str) -> str:
    """The file of a library's backend."""
    return LIBRARIES[library].partition(":")[0].removeprefix("xpnet.").replace(".", "/") + ".py"


def imports(source: str) -> Iterator[str]:
    """The full names that a file imports, wherever the import stands. None is relative."""
    for node in nodes(source):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source}, line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def strings(source: str) -> Iterator[str]:
    """The strings of a file, also pieces of f-strings, without docstrings."""
    docstrings = {id(node.value) for node in nodes(source) if isinstance(node, ast.Expr)}
    for node in nodes(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def names(source: str) -> set[str]:
    """Every identifier of a file: variables, attributes, arguments, keywords and definitions."""
    fields = ("id", "attr", "arg", "name", "asname")
    found = (getattr(node, field, None) for node in nodes(source) for field in fields)
    return {name for name in found if isinstance(name, str)}


def rooms_imported(source: str) -> set[str]:
    """The rooms of xpnet that a file imports, by a statement or by a string that names a module."""
    modules = [name for name in (*imports(source), *strings(source)) if re.match(r"xpnet[.:]\w", name)]
    rooms = {re.split(r"[.:]", name)[1] for name in modules}
    return {room if room in ROOMS else "xpnet" for room in rooms} - {room_of(source)}


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "__init__.py"])
def test_imports_run_one_way(source: str) -> None:
    assert room_of(source) in ROOMS, f"say in ROOMS what {room_of(source)} may import"
    assert rooms_imported(source) <= ROOMS[room_of(source)]


def test_rooms_import_only_rooms_below_them() -> None:
    below = {"xpnet"}
    for room, allowed in ROOMS.items():
        assert allowed <= below
        below.add(room)
    assert rooms_imported("model.py") == ROOMS["model"], "imports are found"


@pytest.mark.parametrize("source", MATHEMATICS)
def test_nn_imports_the_standard_library_and_itself_and_names_no_library(source: str) -> None:
    for name in imports(source):
        assert name.startswith("xpnet.nn.") or name.partition(".")[0] in sys.stdlib_module_names
    libraries = FOREIGN | {"numpy", "np", "jnp", "cp", "mx", "array_api_compat", "importlib", "__import__"}
    words = {word for text in strings(source) for word in re.split(r"[^\w-]+", text.lower())}
    assert not libraries & (names(source) | words)


@pytest.mark.parametrize("library", ROOTS)
def test_only_its_own_backend_names_a_library(library: str) -> None:
    # as a module or a choice, "torch", "torch.linalg" or "array_api_compat.torch", but not within a message
    words = "|".join(map(re.escape, sorted(ROOTS[library])))
    module = re.compile(rf"([\w.]+\.)?({words})([.:][\w.]*)?")
    assert any(module.fullmatch(text) for text in strings(home_of(library)))
    listing = {"backends/libraries.py", "exchange/__init__.py"}  # the libraries, and the formats of files
    for source in set(SOURCES) - {home_of(library)} - listing:
        assert not [text for text in strings(source) if module.fullmatch(text)], source
        assert not ROOTS[library] & names(source), source
        assert not ROOTS[library] & {name.partition(".")[0] for name in imports(source)}, source


@pytest.mark.parametrize(
    "code",
    [
        "import xpnet; assert not [name for name in sys.modules if name.startswith(('numpy', 'xpnet.'))]",
        "import xpnet; xpnet.MLP((4, 3))",
        "import xpnet, numpy as np\n"
        "X, y = np.eye(6, 4), np.arange(6) % 3\n"
        "model = xpnet.MLP((4, 3)); xpnet.train(model, X, y, epochs=1, validation=0)\n"
        "assert xpnet.evaluate(model, X, y).rows == 6; model.predict(X)",
    ],
    ids=["import", "a network", "training"],
)
def test_only_what_is_needed_is_imported(code: str) -> None:
    unasked = FOREIGN | {"click", "rich", "safetensors"}
    assert python(f"import sys\n{code}\nprint(*{unasked} & set(sys.modules))") == "\n"


def test_public_names_are_those_that_a_type_checker_sees() -> None:
    seen: dict[str, object] = {}
    for node in nodes("__init__.py"):
        if isinstance(node, ast.ImportFrom) and node.module != "typing":
            seen |= {
                alias.name: getattr(importlib.import_module(str(node.module)), alias.name)
                for alias in node.names
            }
    assert sorted(seen) == sorted(xpnet.__all__)
    for name, found in seen.items():
        assert getattr(xpnet, name) is found
        assert name in dir(xpnet)
        assert found.__doc__
    with pytest.raises(AttributeError, match="module 'xpnet' has no attribute 'Mlp'"):
        _ = xpnet.Mlp


def test_the_package_brings_its_licences_and_its_types() -> None:
    notice = (PACKAGE / "data" / "mnist" / "LICENSE").read_text(encoding="utf-8")
    assert "Yann LeCun and Corinna Cortes" in notice
    assert "Attribution-Share" in notice
    assert (PACKAGE / "py.typed").exists()
    assert "MIT" in (PACKAGE.parent / "LICENSE").read_text(encoding="utf-8")
