"""The worker's end of the puppet's strings: a line of JSON per event and per word. `support.puppet` has the other."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from waifu_fake import mischief
from waifu_worker.provider import Finish, Piece, ProviderError
from waifu_worker.wire import Code


class Strings:
    """One connection to the test: its end is the process's end, or that of what opened it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def attach(cls, address: str, event: str, what: Mapping[str, object]) -> "Strings":
        """Connect and say what happens."""
        host, _, port = address.rpartition(":")
        strings = cls(*await asyncio.open_connection(host, int(port)))
        strings._tell(event, what)
        return strings

    async def wait_for_go(self) -> None:
        """Wait until the test says go."""
        assert await self._word() == {"do": "go"}

    async def obey(self) -> AsyncGenerator[Piece, None]:
        """Do each word of the test, until one of them ends the generation."""
        try:
            while True:
                word = await self._word()
                match word["do"]:
                    case "chunk":
                        yield word["text"]
                    case "finish":
                        yield Finish(word.get("reason", "stop"))
                        return
                    case "truncate":
                        return
                    case "fail":
                        raise ProviderError(
                            Code(word["code"]), word.get("message", "pulled"), reason=word.get("reason")
                        )
                    case _:
                        _do(word)
                self._tell("did", word)
        except asyncio.CancelledError:
            self._tell("cancelled", {})
            raise
        finally:
            await self.close()

    async def close(self) -> None:
        """Let go."""
        self._writer.close()

    async def _word(self) -> dict[str, Any]:
        line = await self._reader.readline()
        if not line:
            raise ProviderError(Code.UNEXPECTED, "the puppet master let go")
        word: dict[str, Any] = json.loads(line)
        return word

    def _tell(self, event: str, what: Mapping[str, object]) -> None:
        self._writer.write(json.dumps({"event": event, **what}).encode() + b"\n")


def _do(word: Mapping[str, Any]) -> None:
    match word["do"]:
        case "raw":
            mischief.raw(bytes.fromhex(word["hex"]))
        case "exit":
            os._exit(word.get("code", 3))
        case "signal":
            os.kill(os.getpid(), signal.Signals[word["name"]])
        case other:
            raise ValueError(f"the puppet does not know {other!r}")
