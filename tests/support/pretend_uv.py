"""A uv that runs nothing: it makes small environments at once, so that the order of things is the test's."""

import asyncio
import base64
import hashlib
import random
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from waifu_llm.environment.model import Completed
from waifu_llm.environment.uv import python_of
from waifu_llm.environment.verify import site_packages
from waifu_worker.wire import MAGIC, WIRE_VERSION, Ready

_TURNS: Final = 6
_NAME: Final = re.compile(r"name='(\w+)'")


class PretendUv:
    """A `Run`. `files` are what each install brings, by their path in site-packages; each step takes some turns of
    the loop, as many as `chance` says.
    """

    def __init__(self, chance: random.Random | None = None, files: Mapping[str, bytes] | None = None) -> None:
        self._chance = chance or random.Random(0)
        self.files = dict(files or {"dep.py": b"good = True\n"})
        self.installs = 0
        self.starts = 0
        self.hanging: set[str] = set()

    async def __call__(self, argv: Sequence[str], *, env: Mapping[str, str], **more: Any) -> Completed:
        for _ in range(self._chance.randrange(_TURNS)):
            await asyncio.sleep(0)
        if "--version" in argv:
            return Completed(0, "uv 0.13.9 (a test)\n", "")
        if "venv" in argv:
            self._venv(Path(argv[-1]))
        elif "sync" in argv:
            self.installs += 1
            self._sync(Path(argv[-1]).parent)
        elif more.get("until_line"):
            return await self._start(Path(argv[-1]))
        return Completed(0, "", "")

    def _venv(self, folder: Path) -> None:
        shutil.rmtree(folder)
        python = python_of(folder, sys.platform)
        python.parent.mkdir(parents=True, mode=0o700)
        python.symlink_to(sys.executable)
        (folder / "pyvenv.cfg").write_text("home = /nowhere\n")
        site_packages(folder).mkdir(parents=True)

    def _sync(self, folder: Path) -> None:
        site = site_packages(folder)
        lines = []
        for path, data in self.files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_bytes(data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(data)}\n")
        (site / "dep-1.0.dist-info").mkdir(exist_ok=True)
        (site / "dep-1.0.dist-info" / "RECORD").write_text("".join(lines))

    async def _start(self, seed: Path) -> Completed:
        found = _NAME.search((seed / "__main__.py").read_text())
        assert found is not None
        self.starts += 1
        if found[1] in self.hanging:
            await asyncio.Event().wait()
        return Completed(
            0, msgspec.json.encode(Ready(magic=MAGIC, wire=WIRE_VERSION, name=found[1])).decode() + "\n", ""
        )
