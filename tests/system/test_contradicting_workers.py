"""Two workers that need different major versions of one library, which no single environment could hold."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.environments import FAKES
from support.running_module import marked_children, running_module
from support.waiting import bounded

from waifu_client import connect
from waifu_llm.environment import uv

NAMES = ("contradiction_one", "contradiction_two")


def test_no_environment_could_hold_both() -> None:
    argv = [
        uv.find_uv(),
        "pip",
        "compile",
        "--quiet",
        "--no-header",
        *(str(FAKES / it / "pyproject.toml") for it in NAMES),
    ]
    done = subprocess.run([*argv, "--python", sys.executable], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode != 0
    assert "iniconfig" in done.stderr


async def test_they_run_side_by_side_in_one_module(home: Path, installed: Callable[..., None]) -> None:
    installed(*NAMES)
    async with running_module(home) as module, connect(module.url) as llm, bounded():
        for name in NAMES:
            await llm.load(name)
        said = await asyncio.gather(*(llm.generate("Which?", model_id="which", provider=name) for name in NAMES))
        (one, first), (two, second) = (answer.text.split() for answer in said)
        assert (one.split(".")[0], two.split(".")[0]) == ("1", "2")
        assert {int(first), int(second)} == {child.pid for child in marked_children()}
        assert len({worker.pid for worker in (await llm.stats()).workers}) == 2
