"""The shape of the package: which part may know which."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mnist_lit

PACKAGE = Path(mnist_lit.__file__).parent
HEART = ("cli", "data", "networks", "module", "metrics")
SHARED = ("errors", "checkpoints", "options", "files", "assets")  # what every part may use


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imports(name: str) -> set[str]:
    """The package's own modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


def test_the_heart_can_be_read_in_ten_minutes() -> None:
    lines = {name: len((PACKAGE / f"{name}.py").read_text().splitlines()) for name in HEART}
    assert sum(lines.values()) <= 700, lines


@pytest.mark.parametrize("name", HEART)
def test_the_heart_imports_no_wing_but_augment(name: Any) -> None:
    allowed = {f"mnist_lit.{part}" for part in (*HEART, *SHARED, "augment")}
    assert imports(f"mnist_lit.{name}") <= allowed


def test_no_module_imports_itself_through_others() -> None:
    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in imports(name) - {"mnist_lit"}:
                visit(other, (*path, name))
            done.add(name)

    done: set[str] = set()
    for name in MODULES:
        visit(name, ())


@pytest.mark.parametrize("wing", ["reading", "runs"])
def test_a_wing_that_does_without_torch_does_not_import_it(wing: str) -> None:
    modules = [name for name in MODULES if name.startswith(f"mnist_lit.{wing}.")]
    code = (
        "import sys, importlib\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "print(sorted({'torch', 'lightning', 'torchvision', 'matplotlib'} & sys.modules.keys()))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_public_names_are_imported_when_they_are_asked_for() -> None:
    for name in mnist_lit.__all__:
        assert getattr(mnist_lit, name)
    code = "import sys, mnist_lit; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
