"""What happens to an answer between provider and wire, driven in-process as an author of a provider would."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import pytest
from support.scripted_provider import HELLO, Scripted, failed, params
from support.waiting import bounded

from waifu_worker.framing import encode
from waifu_worker.generation import Ticket, generate
from waifu_worker.provider import Finish, GenerateRequest, Piece, ProviderError
from waifu_worker.testing import Driver
from waifu_worker.wire import (
    MAX_LINE_BYTES,
    ChatMessage,
    Chunk,
    Code,
    Done,
    Failed,
    Generate,
    Usage,
)


async def test_a_streamed_answer_comes_piece_by_piece(driver: Driver) -> None:
    answer = await driver.generate(HELLO, params())
    assert answer.chunks == ("hello ", "world")
    assert answer.done.finish_reason == "stop"


async def test_pieces_that_come_together_travel_together(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = (["one", "", " two"], [], "", [""], [" three"], " four", Finish())
    running = driver.generation(HELLO, params())
    *chunks, _ = [message async for message in running.messages()]
    assert [chunk.texts for chunk in chunks if isinstance(chunk, Chunk)] == [("one", " two"), (" three",), (" four",)]
    answer = await driver.generate(HELLO, params(), stream=False)
    assert answer.chunks == ("one two three four",)


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
    script.pieces = (text, "end", ["\x01\x01"] * (MAX_LINE_BYTES // 8), [text], Finish())
    answer = await driver.generate(HELLO, params(), stream=stream)
    assert answer.text == text + "end" + text + text


async def test_usage_reason_warning_and_ignored_parameters_arrive(driver: Driver, script: type[Scripted]) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    script.samplers = frozenset({"seed"})
    script.ignoring = ("temperature", "top_k")
    script.pieces = (Finish("length", usage, "careful"),)
    answer = await driver.generate(HELLO, params(seed=1, top_k=2, top_p=0.5))
    assert answer.done == Done(
        id=answer.done.id,
        usage=usage,
        finish_reason="length",
        ignored=("top_p", "top_k", "temperature"),
        warning="careful",
    )


async def test_ignored_parameters_are_told_where_a_stop_ends_the_answer(driver: Driver, script: type[Scripted]) -> None:
    script.ignoring = ("temperature",)
    script.pieces = ("one END two", Finish("length"))
    answer = await driver.generate(HELLO, params(stops=("END",), top_p=0.5))
    assert (answer.text, answer.done.finish_reason) == ("one ", "stop")
    assert answer.done.ignored == ("top_p", "temperature")


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
    assert "".join(text for chunk in chunks if isinstance(chunk, Chunk) for text in chunk.texts) == "hello ST"
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


LOG = "(the log has more: waifu-llm logs the worker)"


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
    assert (end.error, end.reason, end.message) == (Code.UNEXPECTED, None, f"{message} {LOG}")
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
        assert end.message == f"ValueError: refused [redacted] {LOG}"
        script.pieces = (ProviderError(Code.AUTHORIZATION, f"bad {canary}", provider_code=canary),)
        end = await failed(driver.generate(HELLO, params()))
        assert (end.message, end.provider_code) == ("bad [redacted]", "[redacted]")
    log = capsys.readouterr().err
    assert "Traceback" in log
    assert "ValueError: refused [redacted]" in log
    assert canary not in log


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


@pytest.mark.parametrize("piece", ["x", ["x"] * 300, ["x" * 100_000]])
async def test_a_provider_that_never_waits_leaves_room_for_others(
    driver: Driver, script: type[Scripted], piece: Piece
) -> None:
    script.pieces = [piece] * 100_000
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
        assert message.texts == ("one",)
    second.cancel()
    assert (await failed(second.answer())).error == Code.INTERRUPT
    driver.lines.congested = False
    driver.lines.roomy.set()
    assert (await first.answer()).text == "two"


async def test_a_long_error_is_cut(driver: Driver, script: type[Scripted]) -> None:
    script.pieces = (ProviderError(Code.UNEXPECTED, "x" * 100_000),)
    assert len((await failed(driver.generate(HELLO, params()))).message) == 1000


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("cannot say what it is")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("x" * 100_000), f"{'ValueError: '.ljust(300, 'x')} {LOG}"),
        (ValueError("Traceback\n  its secrets\nthe last line\n \n"), f"ValueError: the last line {LOG}"),
        (ValueError(), f"ValueError {LOG}"),
        (Mute(), f"Mute {LOG}"),
    ],
)
async def test_s21_of_an_error_that_nobody_meant_the_last_line_is_told_and_where_the_rest_is(
    driver: Driver, script: type[Scripted], error: Exception, message: str
) -> None:
    script.pieces = (error,)
    assert (await failed(driver.generate(HELLO, params()))).message == message


class Recorder:
    """An outlet that keeps the lines as they are."""

    congested = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, line: bytes, *, more: bool = False) -> None:
        self.lines.append(line)

    async def room(self) -> None:
        return


async def test_a_chunk_line_is_the_one_that_the_wire_would_write(script: type[Scripted]) -> None:
    text = 'é😀\u2028"\\\n\x00'
    script.pieces = (text, Finish())
    recorder = Recorder()
    request = Generate(id=2**40, ctx=1, params=params(), messages=HELLO, stream=True)
    await generate(script(), request, recorder, Ticket(lambda error: None))
    assert recorder.lines == [encode(Chunk(id=2**40, texts=(text,)))]
