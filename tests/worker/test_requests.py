"""Loads, contexts, cancels and ends: what a worker does with each request, driven in-process."""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import ClassVar

import pytest
from support.scripted_provider import HELLO, Scripted, failed, params
from support.waiting import bounded

from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.testing import Driver, Running
from waifu_worker.wire import (
    MAX_LINE_BYTES,
    Cancel,
    Chunk,
    Code,
    Done,
    Failed,
    Generate,
    Load,
    ModelInfo,
    Models,
    OptionValue,
    Params,
    Progress,
    Unload,
    Usage,
)


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


@pytest.mark.parametrize("error", [OSError("cannot close"), SystemExit("cannot close")])
async def test_a_provider_that_fails_to_close_is_a_line_in_the_log(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    class Sore(Scripted):
        async def close(self) -> None:
            raise error

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


async def test_an_answer_that_cannot_be_written_ends_as_a_failure(driver: Driver, script: type[Scripted]) -> None:
    usage = Usage(prompt_tokens=object(), completion_tokens=1, total_tokens=1)  # type: ignore[arg-type]
    script.pieces = ("one", Finish("stop", usage))
    running = driver.generation(HELLO, params())
    failure = await failed(running.answer())
    assert failure.error == Code.UNEXPECTED


def test_the_key_of_a_load_is_in_no_text_made_of_it() -> None:
    options: dict[str, OptionValue] = {"base_url": "https://user:secret@example.org"}
    for load in (
        LoadRequest("secret", options, "m", lambda *_: None),
        Load(id=1, ctx=1, api_key="secret", options=options),
    ):
        assert "secret" not in repr(load)
        assert load.__rich_repr__() == [("options", ["base_url"])]
