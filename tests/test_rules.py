"""What no line of ours may do, whoever writes it: rules that were somebody's hole before (FAULTS: S9, S15, S16, W8)."""

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("core", "workers", "gateways", "scripts")
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "yaml"}
SHELLS = {"os.system", "os.popen", "asyncio.create_subprocess_shell", "subprocess.getoutput"}
SHELLS |= {"subprocess.getstatusoutput"}
SPAWNERS = {"Popen", "run", "call", "check_call", "check_output"}
STARTERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}
# Whoever reads a line without a limit reads what another process wants to send.
UNBOUNDED = {"readline", "readlines"}


def sources() -> list[Path]:
    return sorted(path for name in SHIPPED for path in (ROOT / name).rglob("*.py"))


def dotted(node: ast.AST) -> str:
    """`a.b.c`; what is no name becomes `?`."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{dotted(value)}.{name}"
    return "?"


class Source:
    """One program: its nodes, and where they stand. A program that ours hands to an interpreter is one too."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.nodes = tuple(ast.walk(ast.parse(text, name)))

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call with its dotted name."""
        return ((dotted(node.func), node) for node in self.nodes if isinstance(node, ast.Call))

    def imports(self) -> Iterator[tuple[str, ast.AST]]:
        for node in self.nodes:
            match node:
                case ast.Import(names=names):
                    yield from ((alias.name, node) for alias in names)
                case ast.ImportFrom(module=str(module)):
                    yield module, node

    def programs(self) -> Iterator["Source"]:
        """The texts in it that are programs of several lines themselves."""
        for node in self.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("import "):
                yield Source(node.value, f"{self.name}:{node.lineno}, a program in it")


@cache
def programs() -> tuple[Source, ...]:
    own = [Source(path.read_text("utf-8"), str(path.relative_to(ROOT))) for path in sources()]
    return (*own, *(inner for source in own for inner in source.programs()))


Found = Iterator[ast.AST]


def objects_from_data(source: Source) -> Found:
    """msgspec, or ruamel.yaml's safe or round-trip loader, make none."""
    yield from (node for name, node in source.imports() if name.split(".")[0] in UNSAFE_MODULES)
    for name, node in source.calls():
        kinds = [word.value for word in node.keywords if word.arg == "typ"]
        safe = [kind for kind in kinds if isinstance(kind, ast.Constant) and kind.value in ("safe", "rt")]
        if name.rpartition(".")[2] == "YAML" and not safe:
            yield node


def shells(source: Source) -> Found:
    for name, node in source.calls():
        if name in SHELLS or any(word.arg == "shell" for word in node.keywords):
            yield node


def lines_without_a_limit(source: Source) -> Found:
    return (node for name, node in source.calls() if name.rpartition(".")[2] in UNBOUNDED and not node.args)


def spawns_in_threads(source: Source) -> Found:
    """A parent-death signal follows the thread that started the child, not the process."""
    for name, node in source.calls():
        if name.rpartition(".")[2] in ("to_thread", "in_thread", "run_in_executor", "submit"):
            yield from (
                node
                for argument in node.args
                if isinstance(argument, ast.Attribute)
                and (argument.attr in SPAWNERS and ast.unparse(argument.value) == "subprocess")
            )


def tasks_without_an_owner(source: Source) -> Found:
    """The loop holds tasks weakly: one that nobody keeps may vanish, and its error with it. A group keeps its own."""
    groups = {
        ast.unparse(item.optional_vars)
        for node in source.nodes
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if item.optional_vars is not None and ast.unparse(item.context_expr).endswith("TaskGroup()")
    }
    for node in source.nodes:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Attribute(attr=name, value=owner))) if name in STARTERS:
                if ast.unparse(owner) not in groups:
                    yield node
            case ast.Lambda(body=ast.Call(func=ast.Attribute(attr=name))) if name in STARTERS:
                yield node


RULES: list[Callable[[Source], Found]] = [
    objects_from_data,
    shells,
    lines_without_a_limit,
    spawns_in_threads,
    tasks_without_an_owner,
]


def broken(rule: Callable[[Source], Found], source: Source) -> list[str]:
    return [f"{source.name}:{getattr(node, 'lineno', 0)}" for node in rule(source)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_line_of_ours_breaks_the_rule(rule: Callable[[Source], Found]) -> None:
    assert [where for source in programs() for where in broken(rule, source)] == []


@pytest.mark.parametrize(
    ("rule", "bad", "good"),
    [
        (objects_from_data, "import pickle", "import msgspec"),
        (objects_from_data, "from yaml import load", "from ruamel.yaml import YAML"),
        (objects_from_data, "YAML()", "YAML(typ='safe')"),
        (objects_from_data, "yaml.YAML(typ='unsafe')", "yaml.YAML(typ='rt')"),
        (shells, "os.system('ls')", "platform.system()"),
        (shells, "subprocess.run('ls', shell=True)", "subprocess.run(['ls'])"),
        (lines_without_a_limit, "pipe.readline()", "pipe.readline(80)"),
        (lines_without_a_limit, "sys.stdin.readlines()", "pipe.read(80)"),
        (spawns_in_threads, "asyncio.to_thread(subprocess.run, x)", "asyncio.to_thread(read, x)"),
        (spawns_in_threads, "in_thread(subprocess.check_call, x)", "in_thread(read, x)"),
        (spawns_in_threads, "loop.run_in_executor(None, subprocess.Popen, x)", "subprocess.run(x)"),
        (tasks_without_an_owner, "asyncio.create_task(x())", "kept = asyncio.create_task(x())"),
        (tasks_without_an_owner, "later(lambda: loop.create_task(x()))", "later(lambda: x())"),
        (
            tasks_without_an_owner,
            "async def f():\n async with open() as g:\n  g.create_task(x())",
            "async def f():\n async with asyncio.TaskGroup() as g:\n  g.create_task(x())",
        ),
    ],
)
def test_a_rule_knows_good_from_bad(rule: Callable[[Source], Found], bad: str, good: str) -> None:
    assert broken(rule, Source(bad, "bad")) != []
    assert broken(rule, Source(good, "good")) == []


def test_a_program_in_a_text_is_held_to_the_rules_too() -> None:
    (inner,) = Source('START = """import sys\\nsys.stdin.readline()\\n"""', "outer").programs()
    assert broken(lines_without_a_limit, inner) == ["outer:1, a program in it:2"]
