"""The catalogue of faults: each row names the tests that show it, and those tests exist."""

import ast
import runpy
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CATALOGUE = [
    f"{kind}{number}"
    for kind, last in {"W": 23, "E": 13, "C": 21, "R": 17, "S": 24}.items()
    for number in range(1, last + 1)
]
# Rows that concern what this project does not have yet.
NOT_YET = {"C20": "the HTTP gateway"}


@cache
def rows() -> dict[str, set[str]]:
    joined: dict[str, set[str]] = {}
    for file in sorted((ROOT / "tests" / "faults").glob("rows_*.py")):
        for row, tests in runpy.run_path(str(file))["ROWS"].items():
            joined.setdefault(row, set()).update(tests)
    return joined


@cache
def names_in(file: str) -> set[str]:
    """Functions and classes, and hypothesis's machines, which are assigned and whose one test has a name of its own."""
    names = {"runTest"}
    for node in ast.walk(ast.parse((ROOT / file).read_text("utf-8"), file)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
    return names


def test_every_row_of_the_catalogue_is_shown_by_a_test() -> None:
    assert {row for row in CATALOGUE if (row in rows()) == (row in NOT_YET)} == set()


def test_every_test_that_a_row_names_exists() -> None:
    missing = {
        f"{row}: {test}"
        for row, tests in rows().items()
        for test in tests
        for file, *names in [test.partition("[")[0].split("::")]
        if not names_in(file).issuperset(names)
    }
    assert missing == set()
