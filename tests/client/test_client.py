"""The asyncio client's calls against a scripted module: what is sent, what comes back, what is raised."""

import asyncio
from typing import Any

import pytest
from support.scripted_module import Peer, answer, scripted
from support.waiting import bounded

import waifu_client
from waifu_client import Usage
from waifu_client.protocol import (
    Close,
    CloseAck,
    ErrorCode,
    ErrorReply,
    Generate,
    GenerateDone,
    GetModels,
    GetModelsDone,
    GetProviders,
    GetProvidersDone,
    GetStats,
    GetStatsDone,
    Interrupt,
    Load,
    LoadAck,
    LoadDone,
    LoadProgress,
    ModelDetails,
    Unload,
    UnloadDone,
)

SUCCESS: dict[str, Any] = {"is_error": False, "error": ErrorCode.SUCCESS}


async def test_a_load_sends_what_it_was_given_and_returns_the_warning() -> None:
    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        assert (load.provider, load.api_key, load.preload_model_id, load.timeout_ms) == ("openai", "k", "m", 5000)
        assert (load.progress, load.fields) == (False, {"base_url": "http://here", "organization": "me"})
        name = load.unique_request_id
        await peer.send(
            LoadAck(unique_request_id=name, provider="openai"),
            LoadDone(unique_request_id=name, provider="openai", warning="old model", **SUCCESS),
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        loaded = await llm.load(
            "openai", api_key="k", preload_model_id="m", timeout_ms=5000, base_url="http://here", organization="me"
        )
        assert (loaded.provider, loaded.warning) == ("openai", "old model")


async def test_a_load_tells_its_progress_where_it_was_asked_for() -> None:
    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        assert load.progress
        name = load.unique_request_id
        await peer.send(
            LoadAck(unique_request_id=name, provider="echo"),
            LoadProgress(unique_request_id=name, stage="environment", detail="building", fraction=None),
            LoadProgress(unique_request_id=name, stage="worker", detail="starting", fraction=0.5),
            LoadDone(unique_request_id=name, provider="echo", **SUCCESS),
        )

    steps: list[tuple[str, float | None]] = []
    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo", on_progress=lambda step: steps.append((step.stage, step.fraction)))
    assert steps == [("environment", None), ("worker", 0.5)]


async def test_an_exception_from_the_progress_callback_interrupts_the_load() -> None:
    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        name = load.unique_request_id
        await peer.send(
            LoadAck(unique_request_id=name, provider="echo"),
            LoadProgress(unique_request_id=name, stage="model", detail="", fraction=None),
        )
        assert (await peer.accept_interrupt()).target_request_id == name

    def refuse(step: LoadProgress) -> None:
        raise KeyError(step.stage)

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(KeyError, match="model"):
            await llm.load("echo", on_progress=refuse)
        await module.over()


async def test_a_load_that_fails_raises_what_the_module_said() -> None:
    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        name = load.unique_request_id
        await peer.send(
            LoadAck(unique_request_id=name, provider="openai"),
            LoadDone(
                unique_request_id=name,
                provider="openai",
                is_error=True,
                error=ErrorCode.AUTHORIZATION,
                message="the key is refused",
            ),
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.AuthorizationError, match="the key is refused"):
            await llm.load("openai", api_key="wrong")


async def test_lists_come_with_their_details() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_providers(echo="a")
        models = await peer.take(GetModels)
        assert models.provider == "echo"
        await peer.send(
            GetModelsDone(
                unique_request_id=models.unique_request_id,
                models=["a", "b"],
                providers=["a", "b"],
                warning="stale",
                details={"a": ModelDetails(context=4096)},
                **SUCCESS,
            )
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        providers = await llm.providers()
        assert (providers.names, providers.details["echo"].default_model) == (("echo",), "a")
        models = await llm.models("echo")
        assert (models.ids, models.details["a"].context, models.warning) == (("a", "b"), 4096, "stale")


async def test_lists_of_a_module_without_details_come_without() -> None:
    async def script(peer: Peer) -> None:
        ask = await peer.take(GetProviders)
        await peer.send(GetProvidersDone(unique_request_id=ask.unique_request_id, providers=["x"]))
        await peer.accept_models("m")

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.providers()).details == {}
        assert (await llm.models()).details == {}


async def test_an_answer_has_text_usage_and_how_it_finished() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        assert (generate.params.model_id, generate.params.temperature, generate.stream) == ("m", 0.5, False)
        assert (generate.provider, generate.prompt) == ("echo", None)
        ending = {"usage": Usage(1, 2, 3), "finish_reason": "length", "ignored": ["seed"]}
        await peer.send(answer(generate, "Hello", **ending))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        said = await llm.generate("Hi", model_id="m", provider="echo", temperature=0.5)
    assert (said.text, said.usage, said.finish_reason, said.ignored) == (
        "Hello",
        Usage(1, 2, 3),
        "length",
        ("seed",),
    )


async def test_a_raw_prompt_goes_without_messages() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        assert (generate.prompt, generate.messages) == ("Once upon", [])
        await peer.send(answer(generate, " a time"))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.generate(prompt="Once upon", model_id="m")).text == " a time"


async def test_without_a_model_id_the_first_model_of_the_list_is_used_until_the_next_load() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_models("first", "second")
        for _ in range(2):
            generate = await peer.accept_generate()
            assert generate.params.model_id == "first"
            await peer.send(answer(generate, "."))
        await peer.accept_load()
        await peer.accept_models("other")
        await peer.accept_providers(echo=None)
        generate = await peer.accept_generate()
        assert generate.params.model_id == "other"
        await peer.send(answer(generate, "."))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.generate("Hi")
        await llm.generate("Hi")
        await llm.load("echo")
        await llm.generate("Hi")


@pytest.mark.parametrize(
    ("listed", "default", "chosen"),
    [
        (["a", "b"], "b", "b"),
        (["a", "b"], "gone", "a"),
        (["a", "b"], None, "a"),
        ([], "b", "b"),
    ],
)
async def test_a_providers_default_model_goes_before_the_first_of_its_list(
    listed: list[str], default: str | None, chosen: str
) -> None:
    async def script(peer: Peer) -> None:
        ask = await peer.accept_models(*listed)
        assert ask.provider == "openai"
        await peer.accept_providers(echo="x", openai=default)
        generate = await peer.accept_generate()
        assert (generate.params.model_id, generate.provider) == (chosen, "openai")
        await peer.send(answer(generate, "."))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.generate("Hi", provider="openai")


async def test_the_default_model_is_that_of_the_load_that_was_asked_for_last() -> None:
    async def script(peer: Peer) -> None:
        loads = [await peer.take(Load) for _ in range(2)]
        for load in reversed(loads):
            name = load.unique_request_id
            await peer.send(
                LoadAck(unique_request_id=name, provider=load.provider),
                LoadDone(unique_request_id=name, provider=load.provider, **SUCCESS),
            )
        await peer.accept_models("a", "b")
        await peer.accept_providers(early="a", late="b")
        generate = await peer.accept_generate()
        assert generate.params.model_id == "b"
        await peer.send(answer(generate, "."))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await asyncio.gather(llm.load("early"), llm.load("late"))
        await llm.generate("Hi")


async def test_without_any_known_model_a_model_id_is_asked_for() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept_models()
        await peer.silence()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.InvalidModel, match="model_id"):
            await llm.generate("Hi")


async def test_many_requests_run_at_once_and_each_gets_its_own_answer() -> None:
    async def script(peer: Peer) -> None:
        requests = [await peer.accept_generate() for _ in range(50)]
        await peer.send(*(answer(each, each.messages[0].content) for each in reversed(requests)))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        said = await asyncio.gather(*(llm.generate(str(n), model_id="m") for n in range(50)))
    assert [each.text for each in said] == [str(n) for n in range(50)]


async def test_an_answer_of_sixteen_mebibytes_arrives_whole() -> None:
    text = "\x01" * 2**23 + "ä" * 2**22  # escaped and not, 16 MiB of text in all

    async def script(peer: Peer) -> None:
        await peer.send(answer(await peer.accept_generate(), text))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.generate("Hi", model_id="m")).text == text


async def test_cancelling_a_generation_interrupts_it_and_nothing_else() -> None:
    acknowledged = asyncio.Event()

    async def script(peer: Peer) -> None:
        slow = await peer.accept_generate()
        acknowledged.set()
        assert (await peer.accept_interrupt()).target_request_id == slow.unique_request_id
        await peer.send(answer(slow, "too late"))
        await peer.send(answer(await peer.accept_generate(), "in time"))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        slow = asyncio.create_task(llm.generate("Hi", model_id="m"))
        await acknowledged.wait()
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert (await llm.generate("Hi", model_id="m")).text == "in time"


async def test_cancelling_before_the_ack_interrupts_too() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        taken.set()
        assert (await peer.accept_interrupt()).target_request_id == load.unique_request_id
        generate = await peer.take(Generate)
        taken.set()
        assert (await peer.accept_interrupt()).target_request_id == generate.unique_request_id

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        for call in (llm.load("echo"), llm.generate("Hi", model_id="m")):
            taken.clear()
            task = asyncio.ensure_future(call)
            await taken.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await module.over()


async def test_a_cancelled_question_sends_no_interrupt() -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.take(GetModels)
        taken.set()
        await peer.silence()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        asking = asyncio.create_task(llm.models())
        await taken.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_an_error_reply_to_a_request_ends_that_request() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.take(Generate)
        await peer.send(
            ErrorReply(
                unique_request_id=generate.unique_request_id,
                is_error=True,
                error=ErrorCode.UNEXPECTED,
                message="an id that is already running",
            )
        )
        await peer.silence()

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.UnexpectedError, match="already running"):
            await llm.generate("Hi", model_id="m")


async def test_messages_of_a_newer_module_are_ignored() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        name = generate.unique_request_id
        for frame in (
            f'{{"type":"thoughts","unique_request_id":"{name}","text":"hm"}}',
            '{"type":"notice","unique_request_id":""}',
            "no json",
            "[" * 100_000,
        ):
            await peer.socket.send(frame)
        await peer.socket.send(b"\xff\xfe")
        await peer.send(answer(generate, "still here"))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.generate("Hi", model_id="m")).text == "still here"


async def test_replies_of_another_kind_do_not_end_a_question() -> None:
    async def script(peer: Peer) -> None:
        ask = await peer.take(GetProviders)
        name = ask.unique_request_id
        await peer.send(
            LoadProgress(unique_request_id=name, stage="worker", detail="", fraction=None),
            GetProvidersDone(unique_request_id=name, providers=["x"]),
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.providers()).names == ("x",)


async def test_progress_that_nobody_asked_for_is_passed_over() -> None:
    async def script(peer: Peer) -> None:
        load = await peer.take(Load)
        name = load.unique_request_id
        await peer.send(
            LoadAck(unique_request_id=name, provider="echo"),
            LoadProgress(unique_request_id=name, stage="worker", detail="", fraction=None),
            LoadDone(unique_request_id=name, provider="echo", **SUCCESS),
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.load("echo")


async def test_unknown_fields_of_a_newer_module_are_ignored() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        await peer.socket.send(
            f'{{"type":"generate_done","unique_request_id":"{generate.unique_request_id}","is_error":false,'
            '"error":"SUCCESS","response":"x","mood":"good"}'
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert (await llm.generate("Hi", model_id="m")).text == "x"


async def test_a_generation_that_fails_raises_its_code_and_when_to_try_again() -> None:
    async def script(peer: Peer) -> None:
        generate = await peer.accept_generate()
        await peer.send(
            GenerateDone(
                unique_request_id=generate.unique_request_id,
                is_error=True,
                error=ErrorCode.UNEXPECTED,
                response="",
                reason="rate_limited",
                retry_after_ms=1500,
            )
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(waifu_client.UnexpectedError) as caught:
            await llm.generate("Hi", model_id="m")
    assert (caught.value.reason, caught.value.retry_after_ms) == ("rate_limited", 1500)


async def test_interrupt_tells_whom_it_stopped() -> None:
    async def script(peer: Peer) -> None:
        everybody = await peer.accept_interrupt()
        assert (everybody.target_request_id, everybody.scope) == (None, "all")
        one = await peer.take(Interrupt)
        assert one.target_request_id == "7"
        await peer.socket.send(
            f'{{"type":"interrupt_ack","unique_request_id":"{one.unique_request_id}","interrupted":["7"]}}'
        )

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        assert await llm.interrupt(scope="all") == []
        assert await llm.interrupt("7") == ["7"]


async def test_unload_statistics_and_close_wait_for_their_answers() -> None:
    async def script(peer: Peer) -> None:
        unload = await peer.take(Unload)
        await peer.send(UnloadDone(unique_request_id=unload.unique_request_id, provider=unload.provider, **SUCCESS))
        ask = await peer.take(GetStats)
        await peer.send(
            GetStatsDone(
                unique_request_id=ask.unique_request_id,
                workers=[],
                environments=[],
                connections=3,
                counters={},
                **SUCCESS,
            )
        )
        close = await peer.take(Close)
        await peer.send(CloseAck(unique_request_id=close.unique_request_id))
        await peer.socket.close(1001)

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        await llm.unload("echo")
        assert (await llm.stats()).connections == 3
        await llm.close_module()


async def test_a_text_that_is_no_unicode_is_refused_and_disturbs_nobody() -> None:
    async def script(peer: Peer) -> None:
        await peer.send(answer(await peer.accept_generate(), "fine"))

    async with scripted(script) as module, bounded(), waifu_client.connect(module.url) as llm:
        with pytest.raises(UnicodeEncodeError):
            await llm.generate("\ud800", model_id="m")
        assert (await llm.generate("Hi", model_id="m")).text == "fine"
