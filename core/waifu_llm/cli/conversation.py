"""A conversation on the terminal: the main thread reads lines, a loop in another thread streams the answers."""

import asyncio
import contextlib
import signal
from types import FrameType
from typing import Final, Self

from waifu_client import Client, ConnectionLost, LLMError
from waifu_llm.catalog import Manifest
from waifu_llm.cli.answer import Answering, write_answer
from waifu_llm.cli.connection import Connected, load, module_client
from waifu_llm.cli.context import Context
from waifu_llm.cli.loop_thread import LoopThread
from waifu_llm.cli.output import note

_LEAVE: Final = "/exit"
_HINT: Final = "Ctrl-C interrupts an answer, Ctrl-D or /exit leaves"


def converse(context: Context, manifest: Manifest, answering: Answering) -> int:
    """Talk until Ctrl-D or /exit. Raises: what loading raises, ConnectionLost, KeyboardInterrupt while loading."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # makes input() a line editor with a history
    with LoopThread(module_client(context)) as loop, _Keyboard(loop) as keyboard:
        connected = loop.value()
        try:
            loop.run(load(connected, manifest))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        note(f"{manifest.declared.title}, {answering.model or 'its first model'}. {_HINT}.")
        while (line := keyboard.read_line()) is not None:
            if line:
                _turn(loop, connected.client, answering, line)
    return 0


class _Keyboard:
    """What is typed. Ctrl-C clears the line that is being typed; at any other time it interrupts what the loop does,
    and a second one, before the first has had its effect, ends the program. Main thread only.
    """

    def __init__(self, loop: LoopThread[Connected]) -> None:
        self._loop = loop
        self._reads = False

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._on_interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def read_line(self) -> str | None:
        """The next line, "" for none, None at the end."""
        try:
            self._reads = True
            line = input("> ").strip()
        except EOFError:
            print()
            return None
        except KeyboardInterrupt:
            print()
            note(f"({_HINT})")
            return ""
        finally:
            self._reads = False
        # A terminal in another encoding gives bytes that are no text.
        return None if line == _LEAVE else line.encode("utf-8", "replace").decode("utf-8")

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._reads:
            self._reads = False
            raise KeyboardInterrupt
        if not self._loop.interrupt():
            raise KeyboardInterrupt


def _turn(loop: LoopThread[Connected], client: Client, answering: Answering, line: str) -> None:
    answering.ask(line)
    try:
        reason = loop.run(write_answer(client, answering))
    except asyncio.CancelledError:
        note("(interrupted)")
    except ConnectionLost:
        raise
    except LLMError as error:
        note(f"waifu-llm: {error.message}")
    else:
        if reason == "length":
            note("(cut: the answer reached its greatest length)")
