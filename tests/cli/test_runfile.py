"""How a running module is found, and that one which is gone is not."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.waiting import wait_until

from waifu_llm import runfile
from waifu_llm.paths import Home
from waifu_llm.runfile import remove_run_file, running_modules, write_run_file


@pytest.fixture
def place(home: Path) -> Home:
    return Home(home)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def a_file(place: Home, pid: int, started: float, **more: object) -> Path:
    place.run.mkdir(parents=True, exist_ok=True)
    file = place.run / f"{pid}.json"
    file.write_text(json.dumps({"url": "ws://127.0.0.1:1", "started": started, **more}))
    return file


def test_a_module_that_says_where_it_listens_is_found(place: Home) -> None:
    file = write_run_file(place, "ws://127.0.0.1:7562", "secret-token")
    (module,) = running_modules(place)
    assert (module.pid, module.url, module.token) == (os.getpid(), "ws://127.0.0.1:7562", "secret-token")
    assert module.started == pytest.approx(psutil.Process().create_time())
    assert "secret-token" not in repr(module)
    if sys.platform != "win32":
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.run.stat().st_mode) == 0o700


@pytest.mark.parametrize("comment", ["", "# -----BEGIN CERTIFICATE-----\n", "-----BEGIN CERTIFICATE-----\n# gone\n"])
def test_its_first_certificate_is_told_without_what_lies_beside_it(place: Home, tmp_path: Path, comment: str) -> None:
    pem = tmp_path / "chain.pem"
    key = "-----BEGIN PRIVATE KEY-----\nA\n-----END PRIVATE KEY-----"
    own, other = (f"-----BEGIN CERTIFICATE-----\n{name}==\n-----END CERTIFICATE-----" for name in "BC")
    pem.write_text(f"{comment}{key}\n{own}\n{other}\n")
    write_run_file(place, "wss://127.0.0.1:7562", None, str(pem))
    assert running_modules(place)[0].certificate == own
    pem.unlink()
    write_run_file(place, "wss://127.0.0.1:7562", None, str(pem))
    assert running_modules(place)[0].certificate is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere psutil alone is asked")
def test_what_linux_tells_is_what_psutil_tells(sleeper: subprocess.Popen[bytes]) -> None:
    for pid in (os.getpid(), sleeper.pid, os.getppid()):
        assert runfile._started(pid) == pytest.approx(runfile._started_by_psutil(pid))
    sleeper.kill()
    wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, "the sleeper is dead")
    assert runfile._started(sleeper.pid) is runfile._started_by_psutil(sleeper.pid) is None
    sleeper.wait()
    assert runfile._started(sleeper.pid) is runfile._started_by_psutil(sleeper.pid) is None


def test_a_module_that_has_left_is_not_found(place: Home) -> None:
    write_run_file(place, "ws://127.0.0.1:7562", None)
    remove_run_file(place)
    remove_run_file(place)
    assert running_modules(place) == []


def test_without_a_home_nothing_runs(place: Home) -> None:
    assert running_modules(place) == []


def test_the_newest_module_comes_first(place: Home, sleeper: subprocess.Popen[bytes]) -> None:
    write_run_file(place, "ws://127.0.0.1:7562", None)
    a_file(place, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    assert [module.pid for module in running_modules(place)] == [sleeper.pid, os.getpid()]


def test_the_file_of_a_killed_module_is_swept_away(place: Home, sleeper: subprocess.Popen[bytes]) -> None:
    file = a_file(place, sleeper.pid, psutil.Process(sleeper.pid).create_time())
    assert running_modules(place) != []
    sleeper.kill()
    # Until its parent asks for it, it is a zombie: it has its pid and start time still, and runs no more.
    wait_until(lambda: psutil.Process(sleeper.pid).status() == psutil.STATUS_ZOMBIE, "the sleeper is dead")
    assert running_modules(place) == []
    assert not file.exists()


def test_a_pid_that_another_process_has_now_is_not_believed(place: Home, sleeper: subprocess.Popen[bytes]) -> None:
    file = a_file(place, sleeper.pid, psutil.Process(sleeper.pid).create_time() - 3600)
    assert running_modules(place) == []
    assert not file.exists()


def test_a_pid_that_nobody_has_is_swept_away(place: Home, sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.communicate()
    file = a_file(place, sleeper.pid, 1.0)
    assert running_modules(place) == []
    assert not file.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 3}', "\x00"])
def test_a_damaged_file_is_no_module(place: Home, content: str) -> None:
    place.run.mkdir(parents=True)
    (place.run / f"{os.getpid()}.json").write_text(content)
    (place.run / "words.json").write_text('{"url": "ws://127.0.0.1:1", "started": 1.0}')
    assert running_modules(place) == []


def test_what_cannot_be_swept_away_is_in_nobodys_way(place: Home) -> None:
    (place.run / "1.json").mkdir(parents=True)
    assert running_modules(place) == []


def test_a_newer_modules_file_may_say_more(place: Home) -> None:
    a_file(place, os.getpid(), psutil.Process().create_time(), added_later=True)
    assert len(running_modules(place)) == 1
