"""The house: each part of coursekit.classroom stands on what comes before it, and none of it loads torch."""

import ast
import subprocess
import sys
from pathlib import Path

import coursekit.classroom

HOUSE = Path(coursekit.classroom.__file__).parent
FLOOR = {
    "sandbox": 0,
    "judge": 1,
    "records": 1,
    "labs": 2,
    "intake": 3,
    "pages": 3,
    "similarity": 3,
    "grade": 4,
    "commands": 5,
}
GROUND = {"coursekit", "coursekit.question", "coursekit._wire"}
MAY_BE_ASKED = {"coursekit.device"}  # by `doctor`, inside a function


def imports(path: Path):
    """Absolute names of the modules that a file imports from coursekit."""
    package = ("coursekit.classroom." + ".".join(path.relative_to(HOUSE).with_suffix("").parts)).split(".")
    package = package if path.name == "__init__.py" else package
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("coursekit"))
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module.startswith("coursekit"):
                yield from (f"{module}.{a.name}" for a in node.names)


def test_each_floor_stands_on_what_comes_before_it():
    wrong = []
    for path in sorted(HOUSE.rglob("*.py")):
        here = path.relative_to(HOUSE).parts[0].removesuffix(".py")
        for name in imports(path):
            parts = name.split(".")
            if parts[1:2] != ["classroom"]:
                if ".".join(parts[:2]) not in GROUND | MAY_BE_ASKED and name != "coursekit.__version__":
                    wrong.append(f"{path.name} imports {name}")
            elif len(parts) > 2 and here in FLOOR and parts[2] != here and FLOOR[parts[2]] >= FLOOR[here]:
                wrong.append(f"{here}/{path.name} imports {name}")
    assert not wrong


def test_no_module_of_the_house_loads_torch():
    code = (
        "import importlib, pkgutil, sys, coursekit.classroom as house\n"
        "for m in pkgutil.walk_packages(house.__path__, house.__name__ + '.'):\n    importlib.import_module(m.name)\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
