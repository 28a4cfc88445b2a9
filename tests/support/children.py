"""Real children of `Processes`: Python programs in a line or two, and what they said."""

import asyncio
import os
import sys
import textwrap
from typing import Final

from support.waiting import bounded

ENV: Final = {"PATH": os.environ.get("PATH", os.defpath)}


class Events:
    """What a child said, and how it ended."""

    def __init__(self) -> None:
        self.out = b""
        self.err = b""
        self.returncode: int | None = None
        self.heard = asyncio.Event()
        self.over = asyncio.Event()

    def output(self, data: bytes) -> None:
        self.out += data
        self.heard.set()

    def errors(self, data: bytes) -> None:
        self.err += data

    def exited(self, returncode: int) -> None:
        assert self.returncode is None, "told twice"
        self.returncode = returncode
        self.over.set()

    async def line(self) -> str:
        async with bounded():
            while b"\n" not in self.out:
                self.heard.clear()
                await self.heard.wait()
        first, self.out = self.out.split(b"\n", 1)
        return first.decode()

    async def end(self) -> int:
        async with bounded():
            await self.over.wait()
        assert self.returncode is not None
        return self.returncode


def python(code: str) -> list[str]:
    """The command that runs it."""
    return [sys.executable, "-I", "-S", "-c", textwrap.dedent(code)]
