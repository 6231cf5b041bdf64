"""The shape of the package: which part may know which."""

import ast
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

import mnist_lit

PACKAGE = Path(mnist_lit.__file__).parent
HEART = ("cli", "data", "networks", "module", "metrics")
# What every part may use.
SHARED = ("errors", "checkpoints", "options", "files", "assets", "datasets")


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


def test_the_detector_is_an_experiment_of_its_own() -> None:
    detection = {name for name in MODULES if name.startswith("mnist_lit.detection")}
    parts = (*HEART, *SHARED, "augment", "training", "reading", "__main__")
    allowed = tuple(f"mnist_lit.{part}" for part in parts)
    for name in MODULES:
        others = imports(name) - {"mnist_lit"} - detection
        if name in detection:
            assert all(other.startswith(allowed) for other in others), name
        else:
            assert not imports(name) & detection, name


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


@pytest.mark.slow
def test_an_editable_install_is_found_in_the_parent_directory_of_a_clone(tmp_path: Path) -> None:
    clone = tmp_path / "mnist_lit"
    shutil.copytree(PACKAGE, clone / "mnist_lit")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PACKAGE.parent / name, clone)
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv/bin/python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", "."]
    subprocess.run(install, cwd=clone, check=True)
    code = "import mnist_lit; from mnist_lit import InputError; print(mnist_lit.__file__)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.check_output([python, "-c", code], cwd=tmp_path, env=environment, text=True)
    assert found == f"{clone / 'mnist_lit/__init__.py'}\n"
