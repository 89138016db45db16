"""The house keeps its walls: who imports whom, who names a library, and what a wheel must hold."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import xpnet
from xpnet.backends import LIBRARIES, backend_class

PACKAGE = Path(xpnet.__file__).parent
SOURCES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# what each room may import besides itself; "xpnet" stands for the version that __init__.py holds
ROOMS = {
    "nn": set[str](),
    "errors": set[str](),
    "backends": {"errors"},
    "arguments": {"errors"},
    "schema": {"arguments", "errors"},
    "files": {"arguments", "schema", "errors"},
    "data": {"arguments", "files", "errors"},
    "arrays": {"nn", "backends", "errors"},
    "model_file": {"nn", "arguments", "arrays", "files", "errors"},
    "model": {"nn", "backends", "arguments", "arrays", "data", "model_file", "errors"},
    "training": {
        *("nn", "backends", "arguments", "arrays", "data", "files", "schema", "model_file", "errors", "model")
    },
    "parity": {"nn", "backends", "data", "files", "errors", "model", "training", "xpnet"},
    "cli": {"nn", "backends", "data", "files", "schema", "errors", "model", "training", "parity", "xpnet"},
    "__main__": {"cli"},
}

# the roots under which each library is imported; NumPy may be named anywhere outside nn
ROOTS = {name: {backend_class(name).library.partition(".")[0], name} for name in LIBRARIES if name != "numpy"}
ROOTS["dpnp"] |= {"dpctl"}
ROOTS["jax"] |= {"jaxlib"}
FOREIGN = {root for roots in ROOTS.values() for root in roots}


@cache
def tree(source: str) -> ast.Module:
    """A file, parsed."""
    return ast.parse((PACKAGE / source).read_text(encoding="utf-8"))


def room_of(source: str) -> str:
    """The room that a file belongs to."""
    return source.partition("/")[0].removesuffix(".py")


def home_of(library: str) -> str:
    """The file of a library's backend."""
    return LIBRARIES[library].partition(":")[0].removeprefix("xpnet.").replace(".", "/") + ".py"


def typing_only(node: ast.AST) -> bool:
    """Whether a statement is an `if TYPE_CHECKING:`."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(source: str) -> Iterator[str]:
    """The full names that a file imports, wherever the import stands; a relative one made absolute."""
    package = ["xpnet", *source.split("/")[:-1]]
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def strings(source: str, but: ast.AST | None = None) -> Iterator[str]:
    """The strings of a file, pieces of f-strings too, but for docstrings and what stands within `but`."""
    left_out = {id(node) for node in ast.walk(but)} if but else set[int]()
    left_out |= {id(node.value) for node in ast.walk(tree(source)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node.value


def names(source: str) -> Iterator[str]:
    """Every word of a file's code: variables, attributes, arguments, keywords and what is defined."""
    for node in ast.walk(tree(source)):
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


def table_of_libraries() -> ast.AST:
    """`LIBRARIES`, the one place that lists the libraries."""
    tables = (node for node in tree("backends/libraries.py").body if isinstance(node, ast.Assign))
    return next(node for node in tables if ast.unparse(node.targets[0]) == "LIBRARIES")


def rooms_imported(source: str) -> set[str]:
    """The rooms of xpnet that a file imports, by statement or by a string that names a module."""
    modules = {name for name in imports(source) if name.partition(".")[0] == "xpnet"}
    modules |= {text for text in strings(source) if re.match(r"xpnet\.[a-z_]+", text)}
    found = set()
    for name in modules:
        room = re.split(r"[.:]", name)[1] if re.search(r"[.:]", name) else ""
        found.add(room if room in ROOMS else "xpnet")
    return found - {room_of(source)}


def run(code: str) -> str:
    """What a fresh Python prints, that knows nothing but the package."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_there_are_sources_to_look_at() -> None:
    assert {"nn/step.py", "backends/torch.py", "model.py", "__init__.py"} <= set(SOURCES)
    assert set(rooms_imported("model.py")) == ROOMS["model"]
    assert "torch" in set(strings("backends/torch.py"))


@pytest.mark.parametrize("source", SOURCES)
def test_imports_run_one_way(source: str) -> None:
    room = room_of(source)
    if room == "__init__":
        return  # hands out the public names, and only when they are asked for: tested below
    assert room in ROOMS, f"say in ROOMS what {room} may import"
    assert rooms_imported(source) <= ROOMS[room]


def test_order_of_the_rooms_has_no_circle() -> None:
    below: set[str] = {"xpnet"}
    for room, allowed in ROOMS.items():
        assert allowed <= below
        below.add(room)
    assert not any("cli" in ROOMS[room] for room in ROOMS if room != "__main__")
    assert "data" not in ROOMS["backends"]
    assert "backends" not in ROOMS["data"]


def test_package_itself_imports_nothing_of_its_own_at_once() -> None:
    found = set()
    for node in tree("__init__.py").body:
        if not typing_only(node):
            for part in ast.walk(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    found.add(ast.unparse(part))
    assert found == {"import importlib"}


@pytest.mark.parametrize("source", [source for source in SOURCES if room_of(source) == "nn"])
def test_nn_imports_the_standard_library_and_itself(source: str) -> None:
    for name in imports(source):
        assert name.startswith("xpnet.nn.") or name.partition(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("source", [source for source in SOURCES if room_of(source) == "nn"])
def test_nn_names_no_library(source: str) -> None:
    libraries = FOREIGN | {"numpy", "np", "jnp", "cp", "mx", "array_api_compat", "importlib", "__import__"}
    assert not libraries & set(names(source))
    for text in strings(source):
        assert not libraries & set(re.split(r"[^\w-]+", text.lower()))


@pytest.mark.parametrize("library", ROOTS)
def test_only_its_own_backend_imports_a_library(library: str) -> None:
    importing = {
        source for source in SOURCES for name in imports(source) if name.partition(".")[0] in ROOTS[library]
    }
    assert importing <= {home_of(library)}


@pytest.mark.parametrize("library", ROOTS)
def test_only_its_own_backend_names_a_library_as_a_module_or_a_choice(library: str) -> None:
    # "torch", "torch.linalg" and "array_api_compat.torch", but not the plain text of a help or a message
    words = "|".join(map(re.escape, sorted(ROOTS[library])))
    module = re.compile(rf"([\w.]+\.)?({words})([.:][\w.]*)?")
    table = table_of_libraries()
    for source in SOURCES:
        if source == home_of(library):
            continue
        named = {text for text in strings(source, table) if module.fullmatch(text)}
        assert named == set(), source
        assert not ROOTS[library] & set(names(source)), source


def test_every_library_of_the_table_has_a_file_that_names_it() -> None:
    for library in LIBRARIES:
        assert home_of(library) in SOURCES
        assert backend_class(library).library in set(strings(home_of(library)))
        assert backend_class(library).name == library


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_is_pickled(source: str) -> None:
    roots = {name.partition(".")[0] for name in imports(source)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert ast.unparse(node.value) == "False"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "__import__"}
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"np.load", "numpy.load"}:
            assert "allow_pickle" in {keyword.arg for keyword in node.keywords}


@pytest.mark.parametrize("source", SOURCES)
def test_no_error_is_swallowed_whole(source: str) -> None:
    broad = {"Exception", "BaseException"}
    for node in ast.walk(tree(source)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            assert not broad & {ast.unparse(kind) for kind in caught}, f"line {node.lineno}"
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            assert not broad & {ast.unparse(kind) for kind in node.args}, f"line {node.lineno}"


@pytest.mark.parametrize("source", SOURCES)
def test_everything_public_says_what_it_is(source: str) -> None:
    module = tree(source)
    assert ast.get_docstring(module)
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name}, line {node.lineno}"


UNASKED = sorted((FOREIGN | {"click", "rich", "safetensors"}) - {"array-api-strict"})


@pytest.mark.parametrize(
    "code",
    [
        "import xpnet",
        "import xpnet; xpnet.MLP((4, 3))",
        "import xpnet, numpy as np\n"
        "X, y = np.eye(6, 4), np.arange(6) % 3\n"
        "model = xpnet.MLP((4, 3)); xpnet.train(model, X, y, epochs=1, validation=0)\n"
        "assert xpnet.evaluate(model, X, y).rows == 6; model.predict(X)",
    ],
    ids=["import", "a network", "training"],
)
def test_no_library_is_imported_that_was_not_asked_for(code: str) -> None:
    loaded = run(f"{code}\nimport sys; print(*(name for name in {UNASKED} if name in sys.modules))")
    assert loaded == ""


def test_import_alone_does_not_even_import_numpy() -> None:
    assert run("import sys, xpnet; print('numpy' in sys.modules)") == "False"


@pytest.mark.parametrize("name", xpnet.__all__)
def test_public_name_is_reachable(name: str) -> None:
    found = getattr(xpnet, name)
    assert name in dir(xpnet)
    assert found.__name__ == name
    assert found.__module__.startswith("xpnet.")
    assert found.__doc__


def test_public_names_are_those_that_a_type_checker_sees() -> None:
    block = next(node for node in tree("__init__.py").body if typing_only(node))
    seen = [
        alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert sorted(seen) == sorted(xpnet.__all__)
    for node in ast.walk(block):
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None
            home = importlib.import_module(node.module)
            assert all(getattr(xpnet, alias.name) is getattr(home, alias.name) for alias in node.names)


def test_star_import_brings_every_public_name() -> None:
    code = (
        "from xpnet import *\nimport xpnet\nprint(*(name for name in xpnet.__all__ if name not in globals()))"
    )
    assert run(code) == ""


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'xpnet' has no attribute 'Mlp'"):
        _ = xpnet.Mlp


def test_version_is_one_that_can_be_published() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", xpnet.__version__)


def test_wheel_has_its_data_and_its_licence() -> None:
    mnist = PACKAGE / "data" / "mnist"
    assert sorted(path.name for path in mnist.iterdir() if path.suffix == ".gz") == [
        "t10k-images-idx3-ubyte.gz",
        "t10k-labels-idx1-ubyte.gz",
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]
    notice = (mnist / "LICENSE").read_text(encoding="utf-8")
    assert "Yann LeCun and Corinna Cortes" in notice
    assert "Attribution-Share" in notice or "CC-BY-SA" in notice or "Attribution-ShareAlike" in notice
    assert (PACKAGE / "py.typed").exists()
    assert "MIT" in (PACKAGE.parent / "LICENSE").read_text(encoding="utf-8")
