"""How the benchmarks' own programs end: with their input. It imports little, since some of them are weighed."""

import asyncio
import contextlib
import sys
import threading


async def end_of_input() -> None:
    """Return once whoever started this process has closed its input, or is gone."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def read() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()
