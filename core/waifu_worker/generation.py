"""One generation: a provider's pieces in, chunk lines and the final message out."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

import msgspec

from waifu_worker.messages import fold_roles
from waifu_worker.provider import Finish, GenerateRequest, Piece, Provider, ProviderError
from waifu_worker.text import AnswerFilter
from waifu_worker.wire import Code, Done, Generate

SAMPLERS: Final = (
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)

# A character takes at most six bytes in JSON, so a chunk of this many stays well under the wire's limit.
_CHUNK_CHARACTERS: Final = 1024 * 1024
# Above that a line is cut, however many pieces are in it.
_LINE_BYTES: Final = 8 * _CHUNK_CHARACTERS
# A provider that never waits would starve the others: after so many pieces the loop turns, long ones count for more.
_PIECES_PER_TURN: Final = 256
_PIECE_SHIFT: Final = 8
# Looking for stops costs their length per piece: without a limit one client could slow down the others.
_LONGEST_STOP: Final = 4096
_MOST_STOPS: Final = 1024

_encode_texts: Final[Callable[[list[str]], bytes]] = msgspec.json.Encoder().encode


class Outlet(Protocol):
    """Where encoded lines go. `congested`: whoever makes text should await `room`."""

    congested: bool

    def write(self, line: bytes, *, more: bool = False) -> None:
        """Send one line. `more`: another one follows before the loop turns, and may take this one along."""

    async def room(self) -> None:
        """Wait until more can be queued."""


class Ticket(msgspec.Struct):
    """What the outside tells a request that runs. `complain` takes a failure that must not change the outcome."""

    complain: Callable[[BaseException], None]
    cancelled: bool = False


async def generate(provider: Provider, request: Generate, outlet: Outlet, ticket: Ticket) -> Done:
    """Run one generation to its end: its chunks go to `outlet`, its `done` comes back.

    Raises: ProviderError, and whatever the provider raises. Cancelling it closes the provider's generator; one
    that swallows the cancellation is left at its next piece.
    """
    _refuse(provider, request)
    params = request.params
    ignored = [name for name in SAMPLERS if getattr(params, name) is not None and name not in provider.samplers]
    asked = GenerateRequest(params, fold_roles(request.messages), request.prompt, _deadline(request.time_left_ms))
    pieces = provider.generate(asked)
    answer = AnswerFilter(character_name=params.character_name, stops=params.stops, thinking=provider.thinks_in_text)
    chunks = _Chunks(request.id, outlet, stream=request.stream)
    try:
        finish = await _pump(pieces, answer, chunks, ticket)
    finally:
        await _close(pieces, ticket)
    # With the request's last line, which is next.
    chunks.flush(more=True)
    if finish is None:
        raise ProviderError(Code.UNEXPECTED, "the answer was cut off before its end: try again", reason="truncated")
    return Done(
        id=request.id,
        usage=finish.usage,
        finish_reason=finish.reason,
        ignored=tuple(dict.fromkeys((*ignored, *asked.ignored))),
        warning=finish.warning,
    )


async def _pump(pieces: AsyncIterator[Piece], answer: AnswerFilter, chunks: "_Chunks", ticket: Ticket) -> Finish | None:
    """Hand the text on until the answer is complete; None where the provider did not say that it is."""
    budget = _PIECES_PER_TURN
    outlet = chunks.outlet
    async for piece in pieces:
        if ticket.cancelled:
            raise asyncio.CancelledError
        if isinstance(piece, Finish):
            chunks.put([answer.end()])
            return msgspec.structs.replace(piece, reason="stop") if answer.stopped else piece
        together = [piece] if isinstance(piece, str) else piece
        size = chunks.put(answer.feed_all(together))
        if answer.stopped:
            return Finish("stop")
        budget -= len(together) + (size >> _PIECE_SHIFT)
        if budget <= 0 or outlet.congested:
            budget = _PIECES_PER_TURN
            # The turn sends what was queued, and so finds out whether the pipe is full.
            await asyncio.sleep(0)
            if outlet.congested:
                await outlet.room()
    chunks.put([answer.end()])
    return Finish("stop") if answer.stopped else None


async def _close(pieces: AsyncIterator[Piece], ticket: Ticket) -> None:
    """Close the generator, and with it the connection to the provider, also where the answer ended early."""
    close = getattr(pieces, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception as error:
        ticket.complain(error)


def _refuse(provider: Provider, request: Generate) -> None:
    params = request.params
    problem = None
    if params.stop_ids and not provider.takes_stop_ids:
        problem = "this provider takes no token ids as stops: give the stop texts instead"
    elif request.prompt is not None and not provider.takes_prompt:
        problem = "this provider completes no raw text: give messages instead of a prompt"
    elif len(params.stops) > _MOST_STOPS or max(map(len, params.stops), default=0) > _LONGEST_STOP:
        problem = f"too many or too long stops: at most {_MOST_STOPS}, of {_LONGEST_STOP} characters each"
    if problem is not None:
        raise ProviderError(Code.INVALID_PROMPT, problem)


def _deadline(time_left_ms: int | None) -> float | None:
    return None if time_left_ms is None else asyncio.get_running_loop().time() + time_left_ms / 1000


class _Chunks:
    """Writes one request's chunk lines: what came together as it comes, or, where nothing is streamed, large ones."""

    def __init__(self, request_id: int, outlet: Outlet, *, stream: bool) -> None:
        self.outlet = outlet
        self._write = outlet.write
        self._stream = stream
        # The constant part of the line, encoded once; `wire.Chunk` is its shape, and a test holds the two together.
        self._head = b'{"type":"chunk","id":%d,"texts":' % request_id
        self._collected: list[str] = []
        self._length = 0

    def put(self, texts: list[str]) -> int:
        """Take pieces that came together; says about how much text they are, in bytes."""
        if not any(texts):
            return 0
        if self._stream:
            line = b"%b%b}\n" % (self._head, _encode_texts(texts))
            if len(line) <= _LINE_BYTES:
                self._write(line)
                return len(line)
        text = "".join(texts)
        self._collected.append(text)
        self._length += len(text)
        if self._stream or self._length >= _CHUNK_CHARACTERS:
            self.flush()
        return len(text)

    def flush(self, *, more: bool = False) -> None:
        """Write what was collected; `more` as in `Outlet.write`."""
        text = "".join(self._collected)
        self._collected.clear()
        self._length = 0
        for start in range(0, len(text), _CHUNK_CHARACTERS):
            part = _encode_texts([text[start : start + _CHUNK_CHARACTERS]])
            self._write(b"%b%b}\n" % (self._head, part), more=more)
