"""Modules whose code runs at the first look: nothing but the time of the work changes."""

import importlib
import runpy
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from support.waiting import WAIT_S

from waifu_llm.late import RARELY, SOON
from waifu_worker import late
from waifu_worker.late import IN_A_WORKER, catch_up, postpone

NAME = "waifu_llm_probe_of_late_imports"
RUNS = "runs = globals().get('runs', 0) + 1\n"

Write = Callable[..., None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes the module's source, from then on to be run late."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])

    def write(source: str, file: str = f"{NAME}.py") -> None:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(source, "utf-8")
        importlib.invalidate_caches()
        postpone([NAME])

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def probe() -> ModuleType:
    return importlib.import_module(NAME)


def gate() -> tuple[threading.Event, threading.Event]:
    """Where a probe that enters it stands still: the first is set when it is there, the second lets it go on."""
    entered, go_on = threading.Event(), threading.Event()

    class Gate(ModuleType):
        def enter(self) -> None:
            entered.set()
            assert go_on.wait(WAIT_S)

    sys.modules[f"{NAME}.gate"] = Gate("gate")
    return entered, go_on


def test_it_runs_at_the_first_look_and_never_again(write: Write) -> None:
    write(f"import sys\n{RUNS}sys.modules['{NAME}.ran'] = None")
    module = probe()
    assert f"{NAME}.ran" not in sys.modules
    assert (module.runs, module.runs, probe().runs) == (1, 1, 1)
    assert f"{NAME}.ran" in sys.modules


def test_it_is_a_plain_module_once_it_has_run(write: Write) -> None:
    write(RUNS)
    module = probe()
    assert module.runs == 1
    assert type(module) is ModuleType
    assert type(module.__loader__).__name__ == "SourceFileLoader"
    assert module.__spec__ is not None
    assert module.__spec__.loader is module.__loader__
    assert {name for name in vars(module) if not name.startswith("__")} == {"runs"}
    assert [name for name in vars(module) if "late" in name] == []


def test_a_name_can_be_imported_from_it(write: Write) -> None:
    write(RUNS)
    scope: dict[str, object] = {}
    exec(f"from {NAME} import runs", scope)
    assert scope["runs"] == 1


@pytest.mark.parametrize("look", [dir, vars])
def test_whoever_asks_for_its_names_gets_them(write: Write, look: Callable[[ModuleType], Iterable[str]]) -> None:
    write("later = 1")
    assert "later" in look(probe())


def test_what_is_changed_in_it_before_it_ran_stays_changed(write: Write) -> None:
    write("changed = 'its own'")
    module = probe()
    module.changed = "another's"  # type: ignore[attr-defined]
    assert module.changed == "another's"


def test_what_is_taken_out_of_it_before_it_ran_is_gone(write: Write) -> None:
    write("taken_out = 1")
    module = probe()
    del module.taken_out
    assert not hasattr(module, "taken_out")


def test_it_can_be_run_as_a_program(write: Write) -> None:
    write(RUNS)
    assert runpy.run_module(NAME)["runs"] == 1


def test_what_it_does_not_have_is_an_attribute_error(write: Write) -> None:
    write(RUNS)
    module = probe()
    for _ in range(2):
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            module.nothing  # noqa: B018
    assert module.runs == 1


def test_it_may_look_at_itself_while_it_runs(write: Write) -> None:
    write(f"import {NAME}\nearly = getattr({NAME}, 'later', None)\nlater = 1")
    module = probe()
    assert (module.later, module.early) == (1, None)


def test_one_that_fails_says_so_at_each_look(write: Write) -> None:
    write(f"{RUNS}if runs < 3: raise OSError('too many open files')\nworks = True")
    module = probe()
    for _ in range(2):
        with pytest.raises(OSError, match="too many open files"):
            module.works  # noqa: B018
    assert module.works is True


def test_two_threads_that_look_at_once_run_it_once(write: Write) -> None:
    write(f"import sys\n{RUNS}sys.modules['{NAME}.gate'].enter()\nlast = runs")
    entered, go_on = gate()
    module, seen = probe(), list[int]()
    threads = [threading.Thread(target=lambda: seen.append(module.last)) for _ in range(2)]
    threads[0].start()
    assert entered.wait(WAIT_S)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert seen == [1, 1]


def test_another_thread_gets_nothing_of_it_while_it_runs(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(f"import sys\ndef early(): return late()\nsys.modules['{NAME}.gate'].enter()\ndef late(): return 1")
    has_looked = threading.Event()

    class Lock:
        """Tells that the second thread waits for the first."""

        def __init__(self) -> None:
            self._lock = threading.RLock()

        def __enter__(self) -> None:
            if threading.current_thread() is looking:
                has_looked.set()
            self._lock.acquire()

        def __exit__(self, *_: object) -> None:
            self._lock.release()

    def look() -> None:
        try:
            seen.append(module.early())
        finally:
            has_looked.set()

    monkeypatch.setattr(late, "RLock", Lock)
    entered, go_on = gate()
    running, looking = threading.Thread(target=catch_up, args=([NAME],)), threading.Thread(target=look)
    module, seen = probe(), list[int]()
    running.start()
    assert entered.wait(WAIT_S)
    looking.start()
    assert has_looked.wait(WAIT_S)
    go_on.set()
    for thread in (running, looking):
        thread.join(WAIT_S)
    assert seen == [1]


def test_one_in_a_package_is_the_package_s_attribute(write: Write) -> None:
    write("", f"{NAME}/__init__.py")
    write(RUNS, f"{NAME}/part.py")
    postpone([f"{NAME}.part"])
    package = probe()
    part = importlib.import_module(f"{NAME}.part")
    assert package.part is part
    assert part.runs == 1


def test_catching_up_runs_those_that_were_imported(write: Write) -> None:
    write(f"import sys\n{RUNS}sys.modules['{NAME}.ran'] = None")
    catch_up([NAME])
    assert NAME not in sys.modules
    probe()
    catch_up([NAME])
    assert f"{NAME}.ran" in sys.modules
    catch_up([NAME])
    assert probe().runs == 1


def test_a_module_that_is_there_already_or_nowhere_is_left_alone(write: Write) -> None:
    write(RUNS)
    before = sys.modules["threading"]
    postpone(["threading", f"{NAME}_too"])
    assert importlib.import_module("threading") is before
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(f"{NAME}_too")


def test_no_package_is_late_that_others_import_parts_of() -> None:
    """Such a part would be run before the package that it lies in."""
    late = {name: importlib.import_module(name) for name in (*SOON, *RARELY, *IN_A_WORKER)}
    assert [name for name, module in late.items() if hasattr(module, "__path__")] == ["importlib.metadata"]
