"""lollms.yaml when the process that saves it is killed, and when several processes save."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from support.waiting import WAIT_S
from waifu_lollms.state import State, StateFile
from waifu_lollms.state.template import TEMPLATE

ROOT: Final = Path(__file__).resolve().parents[3]
SAVER: Final = ROOT / "tests" / "support" / "state_saver.py"
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT / "gateways" / "lollms")}
KILLS: Final = 25
OLD: Final = "# mine\nmodel_name: old   # kept\nunknown: True\n"
NEW: Final = OLD.replace("old ", '"the new model" ')
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no fork and no SIGKILL")


@contextmanager
def saver(*arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, str(SAVER), *map(str, arguments)]
    with subprocess.Popen(argv, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@posix
@pytest.mark.parametrize(
    ("old", "new"), [(OLD, NEW), (None, TEMPLATE.replace("model_name: null", 'model_name: "the new model"'))]
)
def test_killed_at_any_call_of_a_save_there_is_the_old_file_or_the_new_one(
    tmp_path: Path, old: str | None, new: str
) -> None:
    path = tmp_path / "lollms.yaml"
    if old is not None:
        path.write_text(old, "utf-8")
    with saver("each-call", path) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert not process.returncode, err.decode()
    ends: list[tuple[bool, str | None]] = [(killed, content) for killed, content in map(json.loads, out.splitlines())]
    contents = [content for _, content in ends]
    assert ends[-1] == (False, new) and all(killed for killed, _ in ends[:-1])
    # First always the old one, from some call on always the new one, and kills on both sides.
    turn = contents.index(new)
    assert contents == [old] * turn + [new] * (len(contents) - turn)
    assert turn > 10 and len(contents) - turn > 5
    StateFile(path).save(top_k=3)
    assert [file.name for file in tmp_path.iterdir() if "lollms" in file.name] == ["lollms.yaml"]


@posix
def test_killed_at_whatever_moment_the_last_save_was_made_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "lollms.yaml"
    moments = random.Random(4)
    for _ in range(KILLS):
        path.write_text(OLD, "utf-8")
        with saver("until-killed", path) as process:
            assert process.stdout is not None
            process.stdout.read(moments.randrange(1, 4))
            for _ in range(moments.randrange(200_000)):
                pass
            process.send_signal(signal.SIGKILL)
            process.communicate(timeout=WAIT_S)
        assert process.returncode == -signal.SIGKILL
        content = path.read_text("utf-8")
        name = StateFile(path).read().model_name
        assert name is not None
        assert content == OLD.replace("old", name if name == "old" else f'"{name}"')
        assert name == "old" or name.startswith("model ")


def test_saves_of_two_processes_come_one_after_the_other_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "lollms.yaml"
    with saver("times", path, "top_k", 40) as one, saver("times", path, "seed", 40) as other:
        for process in (one, other):
            _, err = process.communicate(timeout=WAIT_S)
            assert not process.returncode, err.decode()
    assert StateFile(path).read() == State(top_k=40, seed=40)
