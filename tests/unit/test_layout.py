"""What holds the repository together: who imports whom, what is packaged, what no file may say."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
# Imports go to the same or a lower level: jobs, then pipelines and cluster, then vis_core.
LEVELS = {"vis_core": 0, "cluster": 1, "pipelines": 1, "jobs": 2}
FILES = sorted(path for root in LEVELS for path in (REPO / root).rglob("*.py"))
# Paths of one machine and addresses of one package index. Written so as not to match themselves.
UNWANTED = re.compile(
    r"/[w]ork/|/[r]oot/|/[h]ome/\w|/[U]sers/\w|[i]ndex-url|[f]ind-links|https?://\S+/[s]imple\b"
)


def imports(path: Path) -> set[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    package = ".".join(path.relative_to(REPO).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.rsplit(".", node.level - 1)[0] if node.level else ""
            names.add(".".join(filter(None, [up, node.module])))
    return names


def shown(path: Path) -> str:
    return path.relative_to(REPO).as_posix()


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_imports_never_go_back(path):
    level = LEVELS[path.relative_to(REPO).parts[0]]
    for name in imports(path):
        root = name.split(".")[0]
        assert root != "tests", f"{shown(path)} imports {name}: the product needs no tests"
        assert LEVELS.get(root, 0) <= level, f"{shown(path)} imports {name} from a level above it"
        if level == 0:
            assert root not in ("ray", "pandas"), f"{shown(path)}: vis_core works without {root}"


def run_python(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("module", ["vis_core.local", "jobs.cli"])
def test_starts_without_heavy_libraries(module):
    """Ray is not needed by the inline runner, nor torch by the command line until a model runs."""
    loaded = run_python(f"import sys, {module}; print(*sys.modules)")
    assert {"ray", "torch", "torchvision", "pandas"}.isdisjoint(loaded)


def test_nothing_happens_at_import():
    """Importing every module starts no thread and no process, and prints nothing."""
    names = [shown(path).removesuffix(".py").replace("/", ".") for path in FILES]
    names = [name.removesuffix(".__init__") for name in names if not name.endswith(".__main__")]
    code = (
        f"import importlib, threading, multiprocessing\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
        f"assert threading.active_count() == 1, threading.enumerate()\n"
        f"assert not multiprocessing.active_children()\n"
    )
    assert run_python(code) == []


def test_packages_are_the_folders_with_code():
    listed = tomllib.loads((REPO / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {shown(path.parent).replace("/", ".") for path in FILES}
    assert set(listed) == folders and len(listed) == len(folders)
    missing = [f for f in folders if not (REPO / f.replace(".", "/") / "__init__.py").is_file()]
    assert not missing, f"folders with code but no __init__.py: {missing}"


def test_constraints_are_plain_pins():
    """One `name==version` per line, no local versions, and the exact pins of the project agree."""
    lines = (REPO / "constraints.txt").read_text().splitlines()
    wrong = [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[a-z0-9.]+", line)]
    assert not wrong
    pins = dict(line.split("==") for line in lines)
    assert len(pins) == len(lines)
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    for line in [*project["dependencies"], *extras]:
        name = re.match(r"[A-Za-z0-9.-]+", line)[0]
        assert name.lower() in pins, f"constraints.txt pins no {name}"
        if "==" in line:
            assert pins[name.lower()] == line.split("==")[1]


def test_files_name_no_machine_and_no_package_index():
    """A clone works anywhere: no paths of one machine, no addresses of one package index."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPO,
        capture_output=True,
        check=True,
    ).stdout
    found = []
    for name in filter(None, listed.decode().split("\0")):
        if not (path := REPO / name).is_file():
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{name}: {match[0]}" for match in UNWANTED.finditer(text)]
    assert not found
