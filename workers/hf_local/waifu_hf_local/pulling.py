"""Downloads a model into the hub's cache, in a process of its own: only that can be ended at any moment.

What was downloaded stays; the next pull goes on from there.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from waifu_hf_local import pull_program
from waifu_worker.provider import ProviderError
from waifu_worker.wire import Code

_MB: Final = 1_000_000


class Step(msgspec.Struct, tag="step"):
    """A line of the program: bytes so far, and how many there are as far as it knows."""

    done: int
    total: int


class Ended(msgspec.Struct, tag="ended"):
    """The last line. `outcome`: one of `_OUTCOMES`, or `done`."""

    outcome: str
    detail: str = ""
    status: int | None = None


_LINE: Final = msgspec.json.Decoder(Step | Ended)
_OUTCOMES: Final[dict[str, tuple[Code, str | None, str]]] = {
    "missing": (Code.INVALID_MODEL, None, "the hub has no model {model!r}, or it is private and needs an api_key"),
    "gated": (
        Code.AUTHORIZATION,
        None,
        "{model} is gated: agree to its terms at its page on the hub, then load with a token as api_key",
    ),
    "unauthorized": (Code.AUTHORIZATION, None, "the hub refuses the token: give another one as api_key"),
    "useless": (Code.INVALID_MODEL, None, "{model} holds no weights that transformers can load"),
    "unreachable": (Code.UNEXPECTED, "provider_down", "the hub cannot be reached to download {model}: {detail}"),
    "disk_full": (Code.UNEXPECTED, None, "the disk is full: {model} cannot be downloaded; make room, then try again"),
}
_OTHERWISE: Final = (Code.UNEXPECTED, "provider_down", "{model} cannot be downloaded: {detail}")


async def pull(model_id: str, cache: Path, token: str | None, report: Callable[[str, float | None], None]) -> None:
    """Download all that is needed. Raises: ProviderError. Cancelling it ends the download at once."""
    report(f"downloading {model_id}", None)
    # The token goes through the pipe: arguments and variables of a process can be read by others.
    order = msgspec.json.encode({"model": model_id, "cache": str(cache), "token": token})
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        str(Path(pull_program.__file__)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdin is not None
    assert program.stdout is not None
    ended = Ended("otherwise", "the download ended without a word; the log may say why")
    try:
        program.stdin.write(order)
        program.stdin.close()
        async for line in program.stdout:
            match _LINE.decode(line):
                case Step(done, total):
                    report(_progress(model_id, done, total), done / total if total else None)
                case Ended() as ended:
                    pass
        await program.wait()
    finally:
        # It may have ended by itself; only its own process is meant, and it has no children.
        with contextlib.suppress(ProcessLookupError):
            program.kill()
    if ended.outcome != "done":
        code, reason, sentence = _OUTCOMES.get(ended.outcome, _OTHERWISE)
        message = sentence.format(model=model_id, detail=ended.detail)
        raise ProviderError(code, message, reason=reason, http_status=ended.status)


def _progress(model_id: str, done: int, total: int) -> str:
    of = f" of {total // _MB}" if total else ""
    return f"downloading {model_id}: {done // _MB}{of} MB"
