"""The provider: its package's docstring lists what it can be asked for."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import ClassVar, NoReturn

from waifu_fake import mischief
from waifu_fake.strings import Strings
from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.provider import Provider as Interface
from waifu_worker.wire import Code, ModelInfo, Usage

_DEADLY = frozenset({"exit", "kill", "segfault", "stop", "hold", "spin"})
_generations = 0


class Provider(Interface):
    """One load of the fake."""

    samplers: ClassVar[frozenset[str]] = frozenset({"top_p", "seed"})
    takes_prompt: ClassVar[bool] = True

    def __init__(self) -> None:
        self._options: dict[str, object] = {}
        self._key: str | None = None
        self._models = [ModelInfo(id="echo", kind="chat", owner="fake", context=4096)]
        self._kept: list[Strings] = []

    async def load(self, request: LoadRequest) -> LoadResult:
        self._options, self._key = dict(request.options), request.api_key
        behaviour, _, argument = str(self._options.get("on_load") or "").partition("=")
        warning = None
        match behaviour:
            case "progress":
                for step in range(int(argument)):
                    request.report("provider", f"step {step}", (step + 1) / int(argument))
            case "warn":
                warning = argument
            case "noise":
                mischief.noise()
            case "puppet":
                strings = await self._strings("load", pid=os.getpid())
                await strings.wait_for_go()
                self._kept.append(strings)
            case _:
                await self._misbehave(behaviour, argument)
        if request.preload_model_id is not None:
            request.report("model", request.preload_model_id, None)
            if request.preload_model_id == "no-such-model":
                raise ProviderError(Code.INVALID_MODEL, "fake has no model 'no-such-model'; there are: echo")
        return LoadResult(tuple(self._models), warning)

    async def models(self) -> Sequence[ModelInfo]:
        behaviour, _, argument = str(self._options.get("on_models") or "").partition("=")
        if behaviour == "grow":
            self._models.append(ModelInfo(id=f"model-{len(self._models)}"))
        else:
            await self._misbehave(behaviour, argument)
        return tuple(self._models)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        global _generations
        _generations += 1
        behaviour, _, argument = request.params.model_id.partition("=")
        if behaviour == "puppet":
            strings = await self._strings("generate", **_heard(request))
            async with contextlib.aclosing(strings.obey()) as pieces:
                async for piece in pieces:
                    yield piece
            return
        async with contextlib.aclosing(self._act(behaviour, argument, request)) as pieces:
            said = 0
            async for piece in pieces:
                said += 1
                yield piece
        if behaviour != "truncate":
            yield Finish("stop", Usage(prompt_tokens=1, completion_tokens=said, total_tokens=1 + said))

    async def close(self) -> None:
        for strings in self._kept:
            await strings.close()

    async def _act(self, behaviour: str, argument: str, request: GenerateRequest) -> AsyncGenerator[str, None]:
        if behaviour in _DEADLY or behaviour in _FAILING:
            async for piece in _count(argument):
                yield piece
            # Only for what ends or blocks this process: a cancel must not come between the chunks and the rest.
            if behaviour in _DEADLY:
                await _flushed()
            await self._misbehave(behaviour, argument)
        elif behaviour in _LINES:
            async for piece in _count(argument):
                mischief.raw(_LINES[behaviour])
                yield piece
                await _flushed()
        elif behaviour == "eat":
            yield "0 "
            await _flushed()
            mischief.eat(int(argument))
            await asyncio.Event().wait()
        elif behaviour in ("count", "truncate"):
            async for piece in _count(argument):
                yield piece
        else:
            for piece in self._pieces(behaviour, argument, request):
                yield piece

    def _pieces(self, behaviour: str, argument: str, request: GenerateRequest) -> list[str]:
        match behaviour:
            case "size":
                return ["x" * int(argument)]
            case "text":
                return argument.split("|")
            case "ids":
                return [json.dumps({"options": self._options, "has_key": self._key is not None}, sort_keys=True)]
            case "fail":
                raise _failure(argument)
            case "echo":
                return _words(request)
            case _ if behaviour in _PAST_THE_RUNTIME:
                _PAST_THE_RUNTIME[behaviour](argument)
                return _words(request)
            case _:
                raise ProviderError(Code.INVALID_MODEL, f"fake has no model {behaviour!r}; there are: echo")

    async def _misbehave(self, behaviour: str, argument: str) -> None:
        """What loads, model lists and generations can do alike."""
        match behaviour:
            case "fail":
                raise _failure(argument)
            case "raise":
                raise RuntimeError("the fake was asked to raise")
            case "memory":
                raise MemoryError
            case "leak":
                raise RuntimeError(f"GET https://example.org/?key={self._key} failed; header Bearer {self._key}")
            case "hang":
                await asyncio.Event().wait()
            case "deaf":
                mischief.be_deaf()
                await asyncio.Event().wait()
            case "ignore-cancel":
                await _ignore_cancels()
            case _:
                mischief.die(behaviour)

    async def _strings(self, event: str, **what: object) -> Strings:
        return await Strings.attach(str(self._options["puppet"]), event, what)


_FAILING = frozenset({"raise", "memory", "leak", "hang", "ignore-cancel", "deaf"})


def _heard(request: GenerateRequest) -> dict[str, object]:
    return {
        "pid": os.getpid(),
        "model_id": request.params.model_id,
        "prompt": request.prompt,
        "messages": [[message.role, message.name, message.content] for message in request.messages],
        "stops": list(request.params.stops),
        "has_deadline": request.deadline is not None,
    }


def _failure(argument: str) -> ProviderError:
    code, _, reason = argument.partition("/")
    return ProviderError(Code(code), "the fake was asked to fail", reason=reason or None)


def _words(request: GenerateRequest) -> list[str]:
    said = request.prompt if request.prompt is not None else request.messages[-1].content
    return re.findall(r"\s+|\S+\s*", said)


def _die_at(count: str) -> None:
    if _generations >= int(count):
        mischief.die("exit")


def _endless(_: str) -> None:
    while True:
        mischief.raw(b"x" * 65536)


def _half_line(_: str) -> None:
    mischief.raw(b'{"type":"chunk","id":')
    mischief.die("exit")


def _leave_child(address: str, *, escaped: bool) -> None:
    mischief.child(address, escaped=escaped)
    mischief.die("exit")


def _two_ends(_: str) -> None:
    """`done`, `chunk`, `done`, before all that the runtime itself will say."""
    task = asyncio.current_task()
    assert task is not None
    request_id = int(task.get_name().removeprefix("request "))
    done = b'{"type":"done","id":%d}\n' % request_id
    mischief.raw(done + b'{"type":"chunk","id":%d,"texts":["late"]}\n' % request_id + done)


_PAST_THE_RUNTIME: dict[str, Callable[[str], None]] = {
    "die-at": _die_at,
    "limited": lambda size: mischief.eat(int(size), allowed=int(size) // 2),
    "flood-stderr": lambda count: mischief.flood_stderr(int(count)),
    "noise": lambda _: mischief.noise(),
    "line": lambda count: mischief.raw(b"x" * int(count) + b"\n"),
    "endless": _endless,
    "half-line": _half_line,
    "child": lambda address: _leave_child(address, escaped=False),
    "escaped-child": lambda address: _leave_child(address, escaped=True),
    "two-ends": _two_ends,
}

_LINES = {
    "garbage": b"Loading weights: 100%|####| 12/12\n",
    "bad-utf8": b'{"type":"chunk","id":1,"texts":["\xff\xfe\x80"]}\n',
    "strangers": b'{"type":"chunk","id":987654321,"texts":["stranger"]}\n{"type":"done","id":987654321}\n',
}


async def _count(argument: str) -> AsyncGenerator[str, None]:
    for number in range(int(argument or 0)):
        yield f"{number} "


async def _flushed() -> None:
    """Until what was yielded has left the process: the runtime writes at the end of a turn of the loop."""
    for _ in range(3):
        await asyncio.sleep(0)


async def _ignore_cancels() -> NoReturn:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
