"""What a worker does with each request, driven in-process as an author of a provider would."""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from typing import ClassVar

import pytest
from support.waiting import bounded

from waifu_worker.framing import encode
from waifu_worker.generation import Ticket, generate
from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, Provider, ProviderError
from waifu_worker.testing import Driver, RequestFailed, Running
from waifu_worker.wire import (
    MAX_LINE_BYTES,
    Cancel,
    ChatMessage,
    Chunk,
    Code,
    Done,
    Failed,
    Generate,
    Load,
    ModelInfo,
    Models,
    Params,
    Progress,
    Unload,
    Usage,
)

HELLO = (ChatMessage(role="user", content="hello"),)


class Scripted(Provider):
    """Does what the test wrote down before it made the driver."""

    loading: ClassVar[list[BaseException | LoadResult]] = []
    pieces: ClassVar[Sequence[Piece | BaseException | asyncio.Event]] = ()
    heard: ClassVar[list[GenerateRequest]] = []
    made: ClassVar[list["Scripted"]] = []

    def __init__(self) -> None:
        self.closed = 0
        self.left: list[type[BaseException] | None] = []
        self.made.append(self)

    async def load(self, request: LoadRequest) -> LoadResult:
        if not self.loading:
            return LoadResult((ModelInfo(id="m"),))
        step = self.loading.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step

    async def models(self) -> Sequence[ModelInfo]:
        return (ModelInfo(id="m"), ModelInfo(id="n"))

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        self.heard.append(request)
        try:
            for piece in self.pieces:
                if isinstance(piece, str | Finish):
                    yield piece
                else:
                    await _happens(piece)
        except BaseException as error:
            self.left.append(type(error))
            raise
        self.left.append(None)

    async def close(self) -> None:
        self.closed += 1


async def _happens(what: BaseException | asyncio.Event) -> None:
    if isinstance(what, BaseException):
        raise what
    await what.wait()


@pytest.fixture
def script() -> type[Scripted]:
    """A fresh class per test."""

    class Fresh(Scripted):
        loading: ClassVar[list[BaseException | LoadResult]] = []
        pieces: ClassVar[Sequence[Piece | BaseException | asyncio.Event]] = ("hello ", "world", Finish("stop"))
        heard: ClassVar[list[GenerateRequest]] = []
        made: ClassVar[list[Scripted]] = []

    return Fresh


@pytest.fixture
async def driver(script: type[Scripted]) -> AsyncIterator[Driver]:
    async with bounded(), Driver(script) as driver:
        await driver.load()
        yield driver


def params(**more: object) -> Params:
    return Params(model_id="m", **more)  # type: ignore[arg-type]


async def failed(running: Awaitable[object]) -> Failed:
    with pytest.raises(RequestFailed) as caught:
        await running
    return caught.value.failed


async def test_a_streamed_answer_comes_piece_by_piece(driver: Driver) -> None:
    answer = await driver.generate(HELLO, params())
    assert answer.chunks == ("hello ", "world")
    assert answer.done.finish_reason == "stop"


async def test_an_answer_that_is_not_streamed_comes_in_one_piece(driver: Driver) -> None:
    answer = await driver.generate(HELLO, params(), stream=False)
    assert answer.chunks == ("hello world",)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_without_text_ends_well(driver: Driver, script: type[Scripted], stream: bool) -> None:
    script.pieces = ("", Finish())
    assert (await driver.generate(HELLO, params(), stream=stream)).chunks == ()


@pytest.mark.parametrize("stream", [True, False])
async def test_long_text_is_cut_below_the_limit_of_a_line(driver: Driver, script: type[Scripted], stream: bool) -> None:
    text = "\x01" * (MAX_LINE_BYTES // 4)
    script.pieces = (text, "end", Finish())
    answer = await driver.generate(HELLO, params(), stream=stream)
    assert answer.text == text + "end"


async def test_usage_reason_warning_and_ignored_parameters_arrive(driver: Driver, script: type[Scripted]) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    script.samplers = frozenset({"seed"})
    script.pieces = (Finish("length", usage, ("temperature", "top_k"), "careful"),)
    answer = await driver.generate(HELLO, params(seed=1, top_k=2, top_p=0.5))
    assert answer.done == Done(
        id=answer.done.id,
        usage=usage,
        finish_reason="length",
        ignored=("top_p", "top_k", "temperature"),
        warning="careful",
    )


async def test_the_provider_gets_folded_messages_and_its_deadline(driver: Driver, script: type[Scripted]) -> None:
    messages = (ChatMessage(role="tool", content="12 C", name="weather"),)
    before = asyncio.get_running_loop().time()
    await driver.generation(messages, params(), time_left_ms=1000).answer()
    await driver.generate(HELLO, params())
    with_limit, without = script.heard
    assert with_limit.messages == (ChatMessage(role="user", content="weather: 12 C"),)
    assert with_limit.deadline is not None
    assert with_limit.deadline >= before + 1
    assert without.deadline is None


async def test_a_prompt_reaches_a_provider_that_completes_text(driver: Driver, script: type[Scripted]) -> None:
    script.takes_prompt = True
    await driver.generate("once upon", params())
    assert script.heard[0].prompt == "once upon"


@pytest.mark.parametrize(
    ("said", "more", "word"),
    [
        ("raw", {}, "raw text"),
        (HELLO, {"stop_ids": (1,)}, "token ids"),
        (HELLO, {"stops": ("x",) * 1025}, "stops"),
        (HELLO, {"stops": ("x" * 4097,)}, "stops"),
    ],
)
async def test_what_a_provider_cannot_do_is_an_invalid_prompt_that_says_so(
    driver: Driver, script: type[Scripted], said: str | Sequence[ChatMessage], more: dict[str, object], word: str
) -> None:
    end = await failed(driver.generate(said, params(**more)))
    assert end.error == Code.INVALID_PROMPT
    assert word in end.message
    assert script.heard == []


async def test_token_ids_reach_a_provider_that_knows_them(driver: Driver, script: type[Scripted]) -> None:
    script.takes_stop_ids = True
    await driver.generate(HELLO, params(stop_ids=(7,)))
    assert script.heard[0].params.stop_ids == (7,)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_ends_the_answer_and_closes_the_provider(
    driver: Driver, script: type[Scripted], stream: bool
) -> None:
    script.pieces = ("one ST", "OP", asyncio.Event())
    answer = await driver.generate(HELLO, params(stops=("STOP",)), stream=stream)
    assert answer.text == "one "
    assert answer.done.finish_reason == "stop"
    assert script.made[0].left == [GeneratorExit]


async def test_a_stop_found_with_the_last_piece_counts_as_the_end(driver: Driver, script: type[Scripted]) -> None:
    for ending in ([Finish("length")], []):
        script.pieces = ("abc", *ending)
        answer = await driver.generate(HELLO, params(stops=("abcd", "bc")))
        assert answer.text == "a"
        assert answer.done.finish_reason == "stop"


async def test_thinking_is_taken_away_where_the_provider_says_that_it_is_in_the_text(
    driver: Driver, script: type[Scripted]
) -> None:
    script.pieces = ("<think>hm", "</think>\n", "hello", Finish())
    assert (await driver.generate(HELLO, params())).text == "<think>hm</think>\nhello"
    script.thinks_in_text = True
    assert (await driver.generate(HELLO, params())).text == "hello"


async def test_an_answer_without_its_end_is_truncated_after_its_text(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = ("hel", "lo ST")
    running = driver.generation(HELLO, params(stops=("STOP",)))
    *chunks, end = [message async for message in running.messages()]
    assert "".join(chunk.text for chunk in chunks if isinstance(chunk, Chunk)) == "hello ST"
    assert isinstance(end, Failed)
    assert (end.error, end.reason) == (Code.UNEXPECTED, "truncated")


async def test_a_providers_own_error_arrives_whole(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = (
        "a",
        ProviderError(
            Code.UNEXPECTED,
            "wait a minute",
            reason="rate_limited",
            retry_after_ms=60_000,
            http_status=429,
            provider_code="slow_down",
        ),
    )
    end = await failed(driver.generate(HELLO, params()))
    assert end == Failed(
        id=end.id,
        error=Code.UNEXPECTED,
        message="wait a minute",
        reason="rate_limited",
        retry_after_ms=60_000,
        http_status=429,
        provider_code="slow_down",
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("bad value"), "ValueError: bad value"),
        (KeyError(), "KeyError"),
        (SystemExit(1), "SystemExit: 1"),
        (asyncio.CancelledError(), "CancelledError"),
    ],
)
async def test_any_other_error_is_unexpected_with_its_name_and_text(
    driver: Driver, script: type[Scripted], error: BaseException, message: str
) -> None:
    script.pieces = (error,)
    end = await failed(driver.generate(HELLO, params()))
    assert (end.error, end.reason, end.message) == (Code.UNEXPECTED, None, message)
    script.pieces = ("fine", Finish())
    assert (await driver.generate(HELLO, params())).text == "fine"


async def test_no_memory_left_says_so(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = (MemoryError(),)
    assert (await failed(driver.generate(HELLO, params()))).reason == "out_of_memory"


async def test_a_traceback_goes_to_the_log_without_locals_and_keys(
    script: type[Scripted], capsys: pytest.CaptureFixture[str], canary: str
) -> None:
    async with bounded(), Driver(script) as driver:
        await driver.load(api_key=canary)
        script.pieces = (ValueError(f"refused {canary}"),)
        end = await failed(driver.generate(HELLO, params()))
        assert end.message == "ValueError: refused [redacted]"
        script.pieces = (ProviderError(Code.AUTHORIZATION, f"bad {canary}", provider_code=canary),)
        end = await failed(driver.generate(HELLO, params()))
        assert (end.message, end.provider_code) == ("bad [redacted]", "[redacted]")
    log = capsys.readouterr().err
    assert "Traceback" in log
    assert "ValueError: refused [redacted]" in log
    assert canary not in log


async def test_a_cancelled_generation_is_interrupted_and_its_generator_cancelled(
    driver: Driver, script: type[Scripted]
) -> None:
    script.pieces = ("one", asyncio.Event())
    running = driver.generation(HELLO, params())
    assert isinstance(await running.next(), Chunk)
    running.cancel()
    running.cancel()
    assert (await failed(running.answer())).error == Code.INTERRUPT
    assert script.made[0].left == [asyncio.CancelledError]


async def test_a_request_cancelled_before_it_began_never_reaches_the_provider(
    driver: Driver, script: type[Scripted]
) -> None:
    running = driver.generation(HELLO, params())
    running.cancel()
    assert (await failed(running.answer())).error == Code.INTERRUPT
    assert script.heard == []


async def test_a_provider_that_swallows_its_cancellation_is_left_at_its_next_piece(driver: Driver) -> None:
    class Stubborn(Scripted):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
            yield "one"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield "two"

    async with Driver(Stubborn) as driver:
        await driver.load()
        running = driver.generation(HELLO, params())
        await running.next()
        running.cancel()
        assert (await failed(running.answer())).error == Code.INTERRUPT


async def test_a_cancelled_request_that_fails_otherwise_is_interrupted_all_the_same() -> None:
    class Noisy(Scripted):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
            yield "one"
            try:
                await asyncio.Event().wait()
            finally:
                raise ProviderError(Code.UNEXPECTED, "the connection broke")

    async with bounded(), Driver(Noisy) as driver:
        await driver.load()
        running = driver.generation(HELLO, params())
        await running.next()
        running.cancel()
        assert (await failed(running.answer())).error == Code.INTERRUPT


async def test_a_failure_to_close_the_generator_does_not_spoil_a_complete_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Sore(Scripted):
        async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
            try:
                yield "one STOP"
            finally:
                raise OSError("cannot close")

    async with bounded(), Driver(Sore) as driver:
        await driver.load()
        assert (await driver.generate(HELLO, params(stops=("STOP",)))).text == "one "
    assert "cannot close" in capsys.readouterr().err


async def test_an_iterator_that_is_no_generator_will_do() -> None:
    class Pieces:
        def __init__(self) -> None:
            self.left: list[Piece] = ["one", Finish("stop")]

        def __aiter__(self) -> "Pieces":
            return self

        async def __anext__(self) -> Piece:
            return self.left.pop(0)

    class Plain(Scripted):
        def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:  # type: ignore[override]
            return Pieces()

    async with bounded(), Driver(Plain) as driver:
        await driver.load()
        assert (await driver.generate(HELLO, params())).text == "one"


async def test_a_provider_that_never_waits_leaves_room_for_others(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = ["x"] * 100_000
    flood = driver.generation(HELLO, params())
    await flood.next()
    flood.cancel()
    messages = [message async for message in flood.messages()]
    assert isinstance(messages[-1], Failed)
    assert len(messages) < 1000


async def test_while_the_pipe_is_full_the_text_waits_and_a_cancel_does_not(
    driver: Driver, script: type[Scripted]
) -> None:
    script.pieces = ("one", "two", Finish())
    driver.lines.congested = True
    first, second = driver.generation(HELLO, params()), driver.generation(HELLO, params())
    for running in (first, second):
        message = await running.next()
        assert isinstance(message, Chunk)
        assert message.text == "one"
    second.cancel()
    assert (await failed(second.answer())).error == Code.INTERRUPT
    driver.lines.congested = False
    driver.lines.roomy.set()
    assert (await first.answer()).text == "two"


async def test_models_are_read_again(driver: Driver) -> None:
    assert [model.id for model in await driver.models()] == ["m", "n"]


@pytest.mark.parametrize(
    "ask", [Models(id=0, ctx=9), Generate(id=0, ctx=9, params=Params(model_id="m"), messages=HELLO)]
)
async def test_a_context_that_is_not_there_is_unexpected(driver: Driver, ask: Models | Generate) -> None:
    end = await failed(driver.start(ask).answer())
    assert end.error == Code.UNEXPECTED
    assert "load it again" in end.message


async def test_a_context_that_still_loads_says_so() -> None:
    async with bounded(), Driver(_Waiting) as driver:
        loading = driver.start(Load(id=0, ctx=1))
        end = await failed(driver.generate(HELLO, params()))
        assert "still running" in end.message
        loading.cancel()
        assert (await failed(loading.answer())).error == Code.INTERRUPT


class _Waiting(Scripted):
    async def load(self, request: LoadRequest) -> LoadResult:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


async def test_a_load_brings_models_warning_and_progress(script: type[Scripted]) -> None:
    class Reporting(script):  # type: ignore[misc, valid-type]
        async def load(self, request: LoadRequest) -> LoadResult:
            request.report("provider", "checking", None)
            request.report("model", "pulling", 7.5)
            thread = threading.Thread(target=request.report, args=("model", "from a thread", -1.0))
            thread.start()
            thread.join()
            await asyncio.sleep(0)
            self.report = request.report
            return LoadResult((ModelInfo(id="m"),), "no network")

    async with bounded(), Driver(Reporting) as driver:
        done = await driver.load()
        assert done.models == (ModelInfo(id="m"),)
        assert done.warning == "no network"
        assert [(one.stage, one.detail, one.fraction) for one in driver.progress] == [
            ("provider", "checking", None),
            ("model", "pulling", 1.0),
            ("model", "from a thread", 0.0),
        ]
        loaded = Reporting.made[0]
        loaded.report("model", "too late", 1.0)
        assert isinstance(driver.progress[-1], Progress)
        assert len(driver.progress) == 3


async def test_a_load_that_fails_closes_its_provider_and_leaves_no_context(script: type[Scripted]) -> None:
    script.loading = [ProviderError(Code.AUTHORIZATION, "no such key")]
    async with bounded(), Driver(script) as driver:
        assert (await failed(driver.load())).error == Code.AUTHORIZATION
        assert "load it again" in (await failed(driver.generate(HELLO, params()))).message
        assert script.made[0].closed == 1
        await driver.load()
        assert (await driver.generate(HELLO, params())).text == "hello world"


async def test_contexts_have_providers_of_their_own(script: type[Scripted]) -> None:
    async with bounded(), Driver(script) as driver:
        await driver.load(ctx=1)
        await driver.load(ctx=2)
        driver.unload(1)
        assert (await driver.generate(HELLO, params(), ctx=2)).text == "hello world"
        assert [one.closed for one in script.made] == [1, 0]
    assert [one.closed for one in script.made] == [1, 1]


async def test_an_unloaded_context_closes_when_its_last_generation_has_ended(
    driver: Driver, script: type[Scripted]
) -> None:
    gate = asyncio.Event()
    script.pieces = ("one ", gate, "two", Finish())
    running = driver.generation(HELLO, params())
    await running.next()
    driver.unload()
    assert "load it again" in (await failed(driver.generate(HELLO, params()))).message
    assert script.made[0].closed == 0
    gate.set()
    assert (await running.answer()).text == "two"
    await asyncio.sleep(0)
    assert script.made[0].closed == 1


async def test_an_unload_ends_a_load_that_nobody_waits_for_and_ignores_unknown_contexts() -> None:
    async with bounded(), Driver(_Waiting) as driver:
        loading = driver.start(Load(id=0, ctx=5))
        await asyncio.sleep(0)
        driver.send(Unload(ctx=77))
        driver.send(Unload(ctx=5))
        assert (await failed(loading.answer())).error == Code.INTERRUPT


async def test_a_second_load_of_a_context_replaces_the_first(driver: Driver, script: type[Scripted]) -> None:
    await driver.load()
    assert [one.closed for one in script.made] == [1, 0]
    assert (await driver.generate(HELLO, params())).text == "hello world"


async def test_a_provider_that_fails_to_close_is_a_line_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    class Sore(Scripted):
        async def close(self) -> None:
            raise OSError("cannot close")

    async with bounded(), Driver(Sore) as driver:
        await driver.load()
    assert "cannot close" in capsys.readouterr().err


async def test_a_second_request_with_a_running_id_is_skipped(
    driver: Driver, script: type[Scripted], capsys: pytest.CaptureFixture[str]
) -> None:
    gate = asyncio.Event()
    script.pieces = ("one ", gate, Finish())
    running = driver.generation(HELLO, params())
    driver.send(Models(id=running.id, ctx=1))
    driver.send(Cancel(id=12345))
    gate.set()
    assert (await running.answer()).text == "one "
    assert "second request" in capsys.readouterr().err


async def test_a_model_list_too_long_for_a_line_fails_in_words() -> None:
    class Long(Scripted):
        async def models(self) -> Sequence[ModelInfo]:
            return (ModelInfo(id="x" * MAX_LINE_BYTES),)

    async with bounded(), Driver(Long) as driver:
        await driver.load()
        assert "LineTooLong" in (await failed(driver.models())).message


async def test_closing_interrupts_what_runs(script: type[Scripted]) -> None:
    script.pieces = ("one", asyncio.Event())
    driver = Driver(script)
    async with bounded(), driver:
        await driver.load()
        running = driver.generation(HELLO, params())
        await running.next()
    assert (await failed(running.answer())).error == Code.INTERRUPT
    assert script.made[0].closed == 1


async def test_a_long_error_is_cut(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = (ValueError("x" * 100_000),)
    assert len((await failed(driver.generate(HELLO, params()))).message) == 1000


class Recorder:
    """An outlet that keeps the lines as they are."""

    congested = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes) -> None:
        self.lines.append(line)

    async def room(self) -> None:
        return


async def test_a_chunk_line_is_the_one_that_the_wire_would_write(script: type[Scripted]) -> None:
    text = 'é😀\u2028"\\\n\x00'
    script.pieces = (text, Finish())
    recorder = Recorder()
    request = Generate(id=2**40, ctx=1, params=params(), messages=HELLO, stream=True)
    await generate(script(), request, recorder, Ticket(lambda error: None))
    assert recorder.lines == [encode(Chunk(id=2**40, text=text))]


class Varied(Scripted):
    """Ends in every way there is, by chance."""

    chance: ClassVar[random.Random]

    async def load(self, request: LoadRequest) -> LoadResult:
        await asyncio.sleep(0)
        if self.chance.random() < 0.2:
            raise ProviderError(Code.AUTHORIZATION, "no")
        return LoadResult(())

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Piece, None]:
        for number in range(self.chance.randrange(5)):
            yield f"{number} "
            await asyncio.sleep(0)
        if self.chance.random() < 0.2:
            raise OSError("broken")
        if self.chance.random() < 0.8:
            yield Finish("stop")


async def do_anything(driver: Driver, chance: random.Random, sent: list[Running]) -> None:
    match chance.randrange(5):
        case 0:
            sent.append(driver.start(Load(id=0, ctx=chance.randrange(3))))
        case 1 | 2:
            sent.append(driver.generation(HELLO, params(), ctx=chance.randrange(3)))
        case 3 if sent:
            chance.choice(sent).cancel()
        case 4 if chance.random() < 0.3:
            driver.unload(chance.randrange(3))
        case _:
            await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(20))
async def test_every_request_ends_exactly_once_whatever_is_cancelled_and_unloaded_when(seed: int) -> None:
    class Fresh(Varied):
        chance: ClassVar[random.Random] = random.Random(seed)
        made: ClassVar[list[Scripted]] = []

    sent: list[Running] = []
    async with bounded(), Driver(Fresh) as driver:
        for _ in range(200):
            await do_anything(driver, Fresh.chance, sent)
        for running in sent:
            ends = [message async for message in running.messages() if isinstance(message, Done | Failed)]
            assert len(ends) == 1
    assert all(inbox.empty() for inbox in driver.lines.inboxes.values())
    assert [one.closed for one in Fresh.made] == [1] * len(Fresh.made)
