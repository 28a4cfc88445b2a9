"""No name of a provider is ever a path: FAULTS S12, P19. 400 of them, and everything that is opened meanwhile."""

import json
import sys
import sysconfig
from pathlib import Path

import pytest
from support.audited import run_audited
from support.command_line import Cli
from support.environments import ROOT
from support.opened import everything_opened, outside
from support.peer import connected
from support.running_module import running_module

from waifu_llm.catalog import Catalog, bundled_roots
from waifu_llm.errors import UnknownProvider

# A long one stands as what is repeated, and how often.
NAMES: list[str] = [
    name if isinstance(name, str) else name[0] * name[1]
    for name in json.loads(Path(__file__).with_name("names.json").read_text("utf-8"))
]
COMMANDS = (
    ("install",),
    ("uninstall",),
    ("update",),
    ("models",),
    ("logs",),
    ("keys", "set"),
    ("keys", "remove"),
    ("stop",),
)


def roots(home: Path) -> list[Path]:
    """What the module may open: its home, itself, Python, and what tells it about this machine."""
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))]
    return [home, ROOT, *python, Path("/proc"), Path("/dev/null")]


def named(opened: list[tuple[str, str]]) -> set[str]:
    """Names that were opened as they are, wherever they lead."""
    return {path for _, path in opened} & set(NAMES)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    return Cli(capsys, monkeypatch)


def test_p19_there_are_400_of_them() -> None:
    assert len(set(NAMES)) == len(NAMES) == 400


def test_p19_nothing_is_opened_for_any_of_them(tmp_path: Path) -> None:
    run_audited(tmp_path, __file__)


@pytest.mark.audited
def test_s12_p19_looking_a_name_up_opens_nothing() -> None:
    catalog = Catalog.read()
    with everything_opened() as opened:
        catalog.read_all()
    # What there is, which the answers name, is read once; no name that is looked up has anything to do with it.
    assert {Path(path) for _, path in opened} <= {
        manifest for root in bundled_roots() for manifest in root.glob("*/pyproject.toml")
    }
    with everything_opened() as opened:
        for name in NAMES:
            for look_up in (catalog.find, catalog.worker):
                with pytest.raises(UnknownProvider) as caught:
                    look_up(name)
                assert len(caught.value.message) < 300
    assert opened == []


@pytest.mark.audited
async def test_s12_p19_a_client_gets_nowhere_with_a_name(home: Path) -> None:
    asks = [("load", "load_done"), ("unload", "unload_done"), ("get_models", "get_models_done"), ("generate", None)]
    async with running_module(home) as module, connected(module.url) as peer:
        with everything_opened() as opened:
            for number, name in enumerate(NAMES):
                kind, done = asks[number % len(asks)]
                for kind, done in (asks[0], asks[1 + number % 3]):
                    more = {"messages": [{"role": "user", "content": "x"}], "params": {}} if done is None else {}
                    await peer.say(kind, f"{kind}-{number}", provider=name, **more)
                    reply = await peer.hear()
                    while reply["type"].endswith("_ack"):
                        reply = await peer.hear()
                    assert reply["unique_request_id"] == f"{kind}-{number}"
                    assert reply["is_error"] and reply["error"] != "SUCCESS", (name, reply)
        assert (outside(opened, *roots(home)), named(opened)) == (set(), set())
    assert not (home / "envs").exists()


@pytest.mark.audited
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_s12_p19_a_command_gets_nowhere_with_a_name(command: tuple[str, ...], cli: Cli, home: Path) -> None:
    """Each command gets every second name, so that any two of them together get all."""
    own = NAMES[COMMANDS.index(command) % 2 :: 2]
    cli(*command, "--", "nobody")  # what is imported for it is imported now
    with everything_opened() as opened:
        ends = {name: cli(*command, "--", name, piped="a key\n") for name in own}
    assert {name: ran for name, ran in ends.items() if ran.code not in (1, 2) or ran.out} == {}
    assert not [ran.err for ran in ends.values() if "\x1b" in ran.err or "\0" in ran.err]
    assert (outside(opened, *roots(home)), named(opened)) == (set(), set())
    assert [folder.name for folder in sorted(home.glob("*/*"))] == []
