"""The walls of docs/architecture.md, read from the code itself: which way imports point, and what is pure."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core"
OURS = ("waifu_llm", "waifu_worker", "waifu_client")
MOST_LINES = 400

# What may be imported from anywhere inside waifu_llm.
EVERYWHERE = {"errors", "config", "paths", "catalog", "redaction", "log"}
EVERYWHERE_ELSE = {"waifu_client.protocol", "waifu_worker.wire"}

# Further edges between the parts of waifu_llm; within a part imports are free, but in no circle.
# A new part or edge belongs into docs/architecture.md with its reason, and then here.
EDGES: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    "errors": set(),
    "config": set(),
    "paths": set(),
    "redaction": set(),
    "catalog": set(),
    "log": set(),
    "doors": set(),
    "late": set(),
    "outbox": set(),
    "private_files": set(),
    "requests": set(),
    "stats": set(),
    "watchdog": set(),
    "keys": {"private_files"},
    "runfile": {"private_files"},
    "last_used": {"private_files"},
    "session": {"requests", "supervision"},
    "server": {"session", "outbox", "doors", "stats", "supervision"},
    "environment": set(),
    "supervision": {"environment", "stats"},
    "module": {"server", "supervision", "environment", "keys", "last_used", "late", "runfile", "stats", "watchdog"},
    "cli": {"module", "environment", "supervision", "keys", "late", "runfile", "private_files", "doors"},
}
# Only the part that owns the pipes may know their framing, who lets clients in the rules gateways have too, and
# who checks loads the addresses that workers refuse as well; what of an address may be told, how a key may look, and
# how modules run late, is the same everywhere;
# only the command line is a client of its own module.
EDGES_OUTSIDE: dict[str, set[str]] = {
    "supervision": {"waifu_worker.framing", "waifu_worker.addresses", "waifu_worker.doors"},
    "environment": {"waifu_worker.addresses"},
    "redaction": {"waifu_worker.scrub"},
    "doors": {"waifu_worker.doors"},
    "late": {"waifu_worker.late"},
    "server": {"waifu_worker.doors"},
    "cli": {"waifu_client", "waifu_client.client", "waifu_client.errors"},
}
# A gateway is no worker: of the worker's side it knows what it has in common with one, and what it has with the module.
OF_GATEWAYS = {f"waifu_worker.{name}" for name in ("stdio", "framing", "wire", "gateway", "doors")}
THIRD_PARTY = {
    "waifu_llm": {"filelock", "msgspec", "platformdirs", "psutil", "uv", "websockets", "keyring"},
    "waifu_worker": {"msgspec"},
    "waifu_client": {"msgspec", "websockets"},
}
STANDARD = sys.stdlib_module_names
IMPURE = {
    "asyncio",
    "threading",
    "subprocess",
    "socket",
    "selectors",
    "select",
    "signal",
    "multiprocessing",
    "websockets",
}
IMPURE_CALLS = {"open", "print", "input"}


def gates() -> dict[str, list[str]]:
    table: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["gates"]
    return table


def modules() -> list[Path]:
    return [path for name in OURS for path in sorted((CORE / name).rglob("*.py"))]


def dotted(path: Path) -> str:
    parts = path.relative_to(CORE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


KNOWN = {dotted(path) for path in modules()}


def resolved(module: str, name: str) -> str:
    """`from module import name`: the submodule where there is one of that name, else the module itself."""
    return f"{module}.{name}" if f"{module}.{name}" in KNOWN else module


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that is imported, and whether that happens when the module is, not inside a function."""
    deferred = {
        id(inner)
        for outer in ast.walk(tree_of(path))
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and ast.unparse(outer.test).endswith("TYPE_CHECKING"))
        for inner in ast.walk(outer)
    }
    for node in ast.walk(tree_of(path)):
        at_once = id(node) not in deferred
        match node:
            case ast.Import(names=names):
                for alias in names:
                    yield alias.name, at_once
            case ast.ImportFrom(module=module, names=names, level=0) if module:
                for alias in names:
                    yield resolved(module, alias.name), at_once
            case ast.ImportFrom():
                pytest.fail(f"{path}: relative import; write the module's full name")
            case _:
                pass


def part_of(module: str) -> str:
    """The part of waifu_llm that a module belongs to: its package, or itself."""
    below = module.split(".")[1:]
    return below[0] if below else "__init__"


def is_allowed(importer: str, imported: str) -> bool:
    top, _, below = imported.partition(".")
    package = importer.split(".")[0]
    if top not in OURS:
        return top in STANDARD or top in THIRD_PARTY[package]
    if package != "waifu_llm":
        return top == package
    part = part_of(importer)
    if top == "waifu_llm":
        return not below or part_of(imported) in EVERYWHERE | EDGES[part] | {part}
    return imported in EVERYWHERE_ELSE | EDGES_OUTSIDE.get(part, set())


@pytest.mark.parametrize("path", modules(), ids=dotted)
def test_an_import_follows_the_arrows_of_the_architecture(path: Path) -> None:
    importer = dotted(path)
    if importer.startswith("waifu_llm"):
        assert part_of(importer) in EDGES, f"{importer} is a new part: say in docs/architecture.md what it is for"
    against = {imported for imported, _ in imports(path) if not is_allowed(importer, imported)}
    assert not against, f"{importer} must not import {sorted(against)}"


def test_no_import_goes_in_a_circle() -> None:
    edges = {
        dotted(path): {name for name, at_once in imports(path) if at_once and name in KNOWN} - {dotted(path)}
        for path in modules()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for imported in sorted(edges[module]):
                visit(imported, (*trail, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("module", gates()["pure"])
def test_a_pure_module_imports_no_loop_and_touches_nothing(module: str) -> None:
    path = ROOT / module
    impure = {name for name, _ in imports(path) if name.split(".")[0] in IMPURE}
    calls = {
        node.func.id
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS
    }
    waits = any(isinstance(node, ast.AsyncFunctionDef | ast.Await) for node in ast.walk(tree_of(path)))
    assert not impure | calls and not waits


def test_a_module_that_calls_itself_pure_is_held_to_it() -> None:
    says_so = re.compile(r"\bpure\b", re.IGNORECASE)
    claimed = {path for path in modules() if says_so.search(ast.get_docstring(tree_of(path)) or "")}
    assert claimed <= {ROOT / module for module in gates()["pure"]}


def workers() -> list[Path]:
    return sorted(path for parent in ("workers", "gateways") for path in (ROOT / parent).glob("*/waifu_*/**/*.py"))


def knows_too_much(folder: Path, imported: str) -> bool:
    """Whether a worker's or gateway's own code, in `folder`, must not import this module of ours."""
    top = imported.split(".")[0]
    if not top.startswith("waifu_") or top in {child.name for child in folder.glob("waifu_*")}:
        return False
    if folder.parent.name == "workers":
        return top != "waifu_worker"
    return imported not in OF_GATEWAYS and top != "waifu_client"


@pytest.mark.parametrize("path", workers(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_worker_knows_the_workers_side_only_and_a_gateway_its_own_rooms_of_it(path: Path) -> None:
    folder = next(parent for parent in path.parents if parent.parent.name in ("workers", "gateways"))
    against = {name for name, _ in imports(path) if knows_too_much(folder, name)}
    assert not against, f"{path} must not import {sorted(against)}"


@pytest.mark.parametrize("path", [*modules(), *workers()], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= MOST_LINES
