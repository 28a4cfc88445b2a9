"""A conversation on the terminal: the main thread reads lines, a loop in another thread streams the answers."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Final

from waifu_client import Client, ConnectionLost, LLMError
from waifu_llm.catalog import Manifest
from waifu_llm.cli.answer import Answering, write_answer
from waifu_llm.cli.connection import load, module_client
from waifu_llm.cli.context import Context
from waifu_llm.cli.loop_thread import LoopThread
from waifu_llm.cli.output import note

_LEAVE: Final = "/exit"
_HINT: Final = "Ctrl-C interrupts an answer, Ctrl-D or /exit leaves"


def converse(context: Context, manifest: Manifest, answering: Answering) -> int:
    """Talk until Ctrl-D or /exit. Raises: what loading raises, ConnectionLost, KeyboardInterrupt while loading."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # makes input() a line editor with a history
    with LoopThread(module_client(context)) as loop, _ctrl_c_interrupts(loop):
        client = loop.value()
        try:
            loop.run(load(client, manifest))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None
        note(f"{manifest.declared.title}, {answering.model or 'its first model'}. {_HINT}.")
        while (line := _read_line()) is not None:
            if line:
                _turn(loop, client, answering, line)
    return 0


def _read_line() -> str | None:
    """The next line, "" for none, None at the end."""
    try:
        line = input("> ").strip()
    except EOFError:
        print()
        return None
    except KeyboardInterrupt:
        print()
        note(f"({_HINT})")
        return ""
    # A terminal in another encoding gives bytes that are no text.
    return None if line == _LEAVE else line.encode("utf-8", "replace").decode("utf-8")


def _turn(loop: LoopThread[Client], client: Client, answering: Answering, line: str) -> None:
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


@contextlib.contextmanager
def _ctrl_c_interrupts(loop: LoopThread[Client]) -> Iterator[None]:
    """Ctrl-C cancels what the loop does; where it does nothing, or cancelling takes too long, it is itself again."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if not loop.interrupt():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        sys.stdout.flush()
