"""The demo's conversation, run by the Python of `.venv`: a module on a free port, and a client on its socket."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from bootstrap import ROOT, in_venv, say, timed

from waifu_client import BlockingClient, LLMError, LoadProgress, connect_blocking

PROMPT: Final = "Hello! This sentence came over a socket, through a worker in an environment of its own, and back."
STOPPING_S: Final = 15.0
LONGEST_LINE: Final = 65536


class DemoFailed(Exception):
    """The message says what went wrong."""


@contextmanager
def module() -> Iterator[str]:
    """A module on a free port; gives its address. In the block it must be asked to stop. Raises: DemoFailed."""
    serve = [str(in_venv("waifu-llm")), "serve", "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen(serve, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout is not None
    try:
        with timed("starting the module"):
            said = process.stdout.readline(LONGEST_LINE)
        url = re.search(r"ws://\S+", said)
        if url is None:
            raise DemoFailed(f"the module did not start: {said.strip() or 'what it said is above'}")
        yield url[0]
        with timed("stopping the module"):
            code = process.wait(STOPPING_S)
        if code != 0:
            raise DemoFailed(f"the module stopped with exit code {code}; what it said is above")
    except subprocess.TimeoutExpired:
        raise DemoFailed("the module did not stop") from None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def progress(step: LoadProgress) -> None:
    """One line per step of the load."""
    share = "" if step.fraction is None else f" {step.fraction:.0%}"
    say(f"    {step.stage}: {step.detail}{share}")


def talk(llm: BlockingClient) -> None:
    """Load, stream, and check that what came back is what was sent. Raises: LLMError, DemoFailed."""
    with timed("loading `echo`: builds its environment the first time, then starts its worker"):
        llm.load("echo", on_progress=progress)
    pieces: list[str] = []
    with timed("streaming a reply"):
        sys.stdout.write("    ")
        for piece in llm.stream(PROMPT, model_id="echo"):
            pieces.append(piece)
            sys.stdout.write(piece)
            sys.stdout.flush()
        say("")
    if "".join(pieces) != PROMPT:
        raise DemoFailed("the reply is not what was sent")


def main() -> int:
    """0 where the reply came."""
    try:
        with module() as url, connect_blocking(url) as llm:
            say(f"    {url}")
            talk(llm)
            llm.close_module()
    except (DemoFailed, LLMError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
