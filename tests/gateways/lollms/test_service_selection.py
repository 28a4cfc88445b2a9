"""What one program selects is everybody's: who sees it when, what is saved, and who wins."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NoReturn

import pytest
from fakes.upstream.openai_api import GOOD_KEY, MODELS
from fakes.upstream.server import OpenAI, running
from support.lollms_service import House, Program, lollms_house
from support.puppet import Puppet, Strand, puppet
from support.running_module import running_module
from support.waiting import WAIT_S, bounded
from waifu_lollms.personalities.library import Library
from waifu_lollms.personalities.model import Personality
from waifu_lollms.service import Rooms, Service
from waifu_lollms.state import StateFile


@pytest.fixture
async def hand() -> AsyncIterator[Puppet]:
    async with puppet() as hand:
        yield hand


@pytest.fixture
async def house(home: Path, installed: Callable[..., None], hand: Puppet) -> AsyncIterator[House]:
    """Loads of `fake` wait for the test's hand."""
    installed("echo", "fake")
    async with lollms_house(home) as house:
        house.fields["fake"] = {"puppet": hand.address, "on_load": "puppet"}
        yield house


async def selecting(program: Program, binding: str, hand: Puppet) -> Strand:
    """The load that it has begun."""
    await program.send("select_binding", {"binding_name": binding})
    return await hand.strand()


async def selected(program: Program) -> dict[str, object]:
    return await program.after("notification", "select_binding")


def saved(house: House) -> tuple[str | None, str | None]:
    state = StateFile(house.state).read()
    return state.binding_name, state.model_name


async def test_a_binding_is_everybodys_and_saved_and_where_new_programs_start(house: House) -> None:
    first, second = await house.program(), await house.program()
    assert await first.select("echo") == {"success": True, "binding_name": "echo", "model_name": "echo"}
    assert await second.generate("Hi from the second") == "Hi from the second"
    assert saved(house) == ("echo", "echo")
    assert await (await house.program()).generate("Hi from the third") == "Hi from the third"
    await house.service.close()
    house.service = house.new_service()
    assert await (await house.program()).generate("Hi from the next day") == "Hi from the next day"


async def test_what_runs_finishes_with_what_it_began(house: House, hand: Puppet) -> None:
    first, second = await house.program(), await house.program()
    load = await selecting(first, "fake", hand)
    load.go()
    assert (await selected(first))["success"] is True
    await first.send("select_model", {"model_name": "puppet"})
    (await hand.strand()).go()  # an id that is not in the list is tried
    assert await first.after("notification", "select_model") == {"success": True, "model_name": "puppet"}
    await first.send("generate_text", {"prompt": "begun", "personality": -1})
    strand = await hand.strand()
    await second.select("echo")
    await strand.chunk("ended by the fake")
    await strand.finish()
    assert (await first.generated())[0] == "ended by the fake"
    assert await first.generate("now by echo") == "now by echo"


async def test_the_old_binding_stays_where_the_new_one_cannot_be_loaded(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    house.fields["fake"] = {"on_load": "fail=UNEXPECTED"}
    failed = await program.select("fake")
    assert failed["success"] is False
    assert failed["binding_name"] == "fake"
    assert failed["error"]
    for name in ("no_such_binding", "lollms", "x" * 5000):
        failed = await program.select(name)
        assert failed["success"] is False
        assert "echo" in failed["error"]
        assert len(failed["error"]) < 1000
    assert await program.generate("Hi") == "Hi"
    assert saved(house) == ("echo", "echo")


@pytest.mark.keyless
async def test_a_missing_key_is_said_before_anything_is_installed(house: House) -> None:
    program = await house.program()
    failed = await program.select("openai")
    assert failed["success"] is False
    assert "key" in failed["error"]
    assert saved(house) == (None, None)


async def test_a_service_on_the_net_is_selected_with_its_key(house: House, installed: Callable[..., None]) -> None:
    installed("openai")
    async with running(OpenAI()) as upstream:
        house.fields["openai"] = {"api_key": "sk-wrong-0123456789", "base_url": f"{upstream.url}/v1"}
        program = await house.program()
        assert (await program.select("openai"))["success"] is False
        house.fields["openai"]["api_key"] = GOOD_KEY
        assert (await program.select("openai"))["success"] is True
        models = await program.ask("list_available_models", reply="available_models_list")
        assert [each["title"] for each in models["available_models"]] == list(MODELS)
        assert {each["model_type"] for each in models["available_models"]} == {"api"}
        assert (await program.ask("select_model", {"model_name": "gpt-none"}))["success"] is False
        assert (await program.ask("select_model", {"model_name": "gpt-4o"}))["success"] is True
        assert await program.generate("Hi", temperature=0.5)


async def test_the_model_is_the_one_last_used_with_that_binding(house: House, hand: Puppet) -> None:
    program = await house.program()
    await program.select("echo")
    await program.ask("select_model", {"model_name": "lorem"})
    load = await selecting(program, "fake", hand)
    load.go()
    assert (await selected(program))["model_name"] == "echo"
    assert (await program.select("echo"))["model_name"] == "lorem"
    assert saved(house) == ("echo", "lorem")


async def test_a_model_is_everybodys_and_a_bad_one_changes_nothing(house: House) -> None:
    first, second = await house.program(), await house.program()
    assert (await first.ask("select_model", {"model_name": "lorem"}))["error"] == "Please select a binding first"
    await first.select("echo")
    await first.send("select_model", {"model_name": "no-such-model"})
    failed = await first.after("notification", "select_model")
    assert (failed["success"], failed["model_name"]) == (False, "no-such-model")
    assert await second.generate("Hi") == "Hi"
    assert await second.ask("select_model", {"model_name": "lorem"}) == {"success": True, "model_name": "lorem"}
    assert await first.generate("Hi", n_predicts=2) == "lorem ipsum"
    assert saved(house) == ("echo", "lorem")


@pytest.mark.parametrize("first_is_done_first", [True, False])
async def test_of_two_selects_at_once_the_last_wins(house: House, hand: Puppet, first_is_done_first: bool) -> None:
    first, second = await house.program(), await house.program()
    first_load = await selecting(first, "fake", hand)
    house.fields["fake"]["base_url"] = "http://another"
    second_load = await selecting(second, "fake", hand)
    loads = [(first_load, first), (second_load, second)]
    replies = {}
    for load, program in loads if first_is_done_first else reversed(loads):
        load.go()
        replies[program.sid] = await selected(program)
    assert replies[first.sid] == {"success": False, "binding_name": "fake", "error": "superseded"}
    assert replies[second.sid]["success"] is True
    assert saved(house) == ("fake", "echo")


async def test_a_select_that_fails_supersedes_nobody(house: House, hand: Puppet) -> None:
    first, second = await house.program(), await house.program()
    load = await selecting(first, "fake", hand)
    house.fields["openai"] = {"api_key": ""}
    assert (await second.select("openai"))["success"] is False
    assert (await second.select("no_such_binding"))["success"] is False
    load.go()
    assert (await selected(first))["success"] is True


async def test_a_program_that_leaves_while_it_selects_selects_nothing(house: House, hand: Puppet) -> None:
    first, second = await house.program(), await house.program()
    await second.select("echo")
    load = await selecting(first, "fake", hand)
    await first.leave()
    load.go()
    assert await second.generate("Hi") == "Hi"
    assert saved(house) == ("echo", "echo")


async def test_a_model_selected_for_a_binding_that_was_changed_meanwhile_is_superseded(
    house: House, hand: Puppet
) -> None:
    first, second = await house.program(), await house.program()
    load = await selecting(first, "fake", hand)
    load.go()
    await selected(first)
    await first.send("select_model", {"model_name": "unlisted"})
    trial = await hand.strand()
    await second.select("echo")
    trial.go()
    failed = await first.after("notification", "select_model")
    assert failed == {"success": False, "model_name": "unlisted", "error": "superseded"}
    assert saved(house) == ("echo", "echo")


async def test_a_load_tells_its_steps_to_whoever_selects_and_to_nobody_else(house: House) -> None:
    house.fields["fake"] = {"on_load": "progress=3"}
    first, second = await house.program(), await house.program()
    await first.send("select_binding", {"binding_name": "fake"})
    notices = []
    while (heard := await first.next())[0] == "notification":
        notices.append(heard[1])
    assert heard[0] == "select_binding"
    contents = [notice["content"] for notice in notices]
    assert [content for content in contents if "step" in content] == [
        "fake: step 0 (33%)",
        "fake: step 1 (67%)",
        "fake: step 2 (100%)",
    ]
    assert {notice["notification_type"] for notice in notices} == {"info"}
    assert {notice["display_type"] for notice in notices} == {0}
    assert first.nothing_more
    assert second.history == []


async def test_a_binding_in_the_file_that_does_not_exist_is_told_and_another_can_be_selected(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    async with lollms_house(home, state="binding_name: gone\nmodel_name: gone-model\n") as house:
        program = await house.program()
        await program.send("generate_text", {"prompt": "Hi", "personality": -1})
        assert "gone" in (await program.reply("generation_error"))["error"]
        await program.reply("text_generated")
        listed = await program.ask("list_available_models", reply="available_models_list")
        assert listed["success"] is False
        assert "gone" in listed["error"]
        assert (await program.ask("select_model", {"model_name": "echo"}))["success"] is False
        assert (await program.select("echo"))["success"] is True
        assert await program.generate("Hi") == "Hi"


async def test_a_binding_without_a_model_in_the_file_answers_with_its_default(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    async with lollms_house(home, state="binding_name: echo\n") as house:
        assert await (await house.program()).generate("Hi") == "Hi"


async def test_a_broken_file_is_never_written_and_what_is_selected_works_all_the_same(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    broken = "binding_name: [\nmine: 1\n"
    async with lollms_house(home, state=broken) as house:
        program = await house.program()
        reply = await program.select("echo")
        assert reply["success"] is True
        assert "lollms.yaml" in reply["warning"]
        added = await program.ask("add_personality", "fun/pirate", reply="personality_added")
        assert "lollms.yaml" in added["warning"]
        assert await program.generate("Hi") == "Hi"
        assert house.state.read_text("utf-8") == broken


async def test_what_the_user_wrote_stays(home: Path, installed: Callable[..., None]) -> None:
    installed("echo")
    mine = "# mine\nmodel_name: nothing # so far\nextra: {a: 1}\nbinding_name: nobody\n"
    async with lollms_house(home, state=mine) as house:
        await (await house.program()).select("echo")
        assert house.state.read_text("utf-8") == mine.replace("nothing", "echo").replace("nobody", "echo")


async def test_a_failure_to_load_is_that_programs_alone(house: House) -> None:
    first, second = await house.program(), await house.program()
    house.fields["fake"] = {}
    await first.select("fake")
    house.fields["fake"] = {"on_load": "fail=UNEXPECTED"}
    await second.send("generate_text", {"prompt": "Hi", "personality": -1})
    assert (await second.reply("generation_error"))["error"]
    await second.reply("text_generated")
    assert await first.generate("Hi") == "Hi"
    house.fields["fake"] = {}
    assert await second.generate("Hi") == "Hi"


async def test_a_module_that_was_started_again_wedges_nobody(
    home: Path, tmp_path: Path, installed: Callable[..., None]
) -> None:
    installed("echo")
    async with lollms_house(home) as house:
        program = await house.program()
        await program.select("echo")
        assert await house.module.stop() == 0
        await program.send("generate_text", {"prompt": "Hi", "personality": -1})
        assert (await program.reply("generation_error"))["error"]
        await program.reply("text_generated")
        listed = await program.ask("list_available_bindings", reply="bindings_list")
        assert listed["success"] is False
        async with running_module(home) as again, bounded():
            house.url = again.url
            assert await program.generate("Hi again") == "Hi again"
            assert (await program.ask("list_available_bindings", reply="bindings_list"))["success"] is True
            await program.leave()


async def test_what_a_program_sends_right_after_a_select_means_that_binding(house: House) -> None:
    program = await house.program()
    await program.send("select_binding", {"binding_name": "echo"})
    await program.send("select_model", {"model_name": "lorem"})
    await program.send("list_available_models")
    await program.send("generate_text", {"prompt": "Hi", "personality": -1, "n_predicts": 2})
    while not {"select_model", "available_models_list", "text_generated"} <= {event for event, _ in program.history}:
        await program.next()
    replies = {event: payload for event, payload in program.history if event not in ("notification", "text_chunk")}
    assert replies["select_binding"]["success"] is True
    assert replies["select_model"] == {"success": True, "model_name": "lorem"}
    assert replies["available_models_list"]["success"] is True
    assert "error" not in replies["text_generated"]


async def test_what_a_program_generates_right_after_it_selected_a_model_is_by_that_model(house: House) -> None:
    program = await house.program()
    await program.select("echo")
    for model, said in (("lorem", "lorem ipsum"), ("echo", "Hi"), ("lorem", "lorem ipsum")):
        await program.send("select_model", {"model_name": model})
        await program.send("generate_text", {"prompt": "Hi", "personality": -1, "n_predicts": 2})
        assert (await program.reply("select_model"))["success"] is True
        assert (await program.generated())[0] == said


@pytest.mark.parametrize("works", [True, False])
async def test_what_a_program_generates_right_after_it_selected_a_binding_waits_for_that_binding(
    house: House, hand: Puppet, works: bool
) -> None:
    program, other = await house.program(), await house.program()
    await program.select("echo")
    load = await selecting(program, "fake", hand)
    await program.send("generate_text", {"prompt": "Hi", "personality": -1})
    assert await other.generate("others do not wait") == "others do not wait"
    if works:
        load.go()
    else:
        load.let_go()
    assert (await selected(program))["success"] is works
    assert (await program.generated())[0] == "Hi"
    assert (await house.counts("fake")).get("SUCCESS", 0) == works


async def test_what_a_program_mounts_can_be_activated_at_once_and_the_last_activation_holds(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, other = await house.program(), await house.program()
    go = threading.Event()

    def find(library: Library, path: str, find: Callable[[Library, str], Personality] = Library.find) -> Personality:
        if path == "english/fun/pirate":
            assert go.wait(WAIT_S)
        return find(library, path)

    monkeypatch.setattr(Library, "find", find)
    await program.send("add_personality", {"path": "english/fun/pirate"})
    await program.send("activate_personality", {"id": 1})
    await program.send("activate_personality", {"id": 0})
    await program.send("list_active_personalities")
    assert (await other.ask("list_active_personalities", reply="active_personalities_list"))["personalities"] == [
        "lollms"
    ]
    go.set()
    assert (await program.reply("personality_added"))["id"] == 1
    assert [(await program.reply("activate_personality"))["id"] for _ in range(2)] == [1, 0]
    assert (await program.reply("active_personalities_list"))["active_personality_id"] == 0
    assert StateFile(house.state).read().active_personality_id == 0


async def test_a_worker_that_crashed_too_often_is_loaded_again_by_the_next_generation(
    home: Path, installed: Callable[..., None]
) -> None:
    installed("fake")
    async with lollms_house(home, state="binding_name: fake\nmodel_name: exit\n") as house:
        program = await house.program()
        for _ in range(8):
            await program.send("generate_text", {"prompt": "Hi", "personality": -1})
            await program.reply("generation_error")
            await program.reply("text_generated")
        await program.send("select_model", {"model_name": "echo"})
        assert (await program.after("notification", "select_model"))["success"] is True
        assert await program.generate("Hi") == "Hi"


async def test_a_bug_while_the_file_is_read_wedges_nobody(house: House, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StateFile):
        def read(self) -> NoReturn:
            raise ZeroDivisionError("a bug")

    rooms = Rooms(house.open_client, Library([house.personalities], None), Broken(house.state))
    house.service = Service(rooms)
    program = await house.program()
    assert (await program.select("echo"))["success"] is True
    assert await program.generate("Hi") == "Hi"
    assert "ZeroDivisionError: a bug" in caplog.text


async def test_many_mount_and_activate_at_once_and_nothing_is_lost(house: House) -> None:
    programs = [await house.program() for _ in range(10)]
    paths = ["english/fun/pirate", "english/generic/lollms"]
    added = await asyncio.gather(
        *(program.ask("add_personality", paths[n % 2], reply="personality_added") for n, program in enumerate(programs))
    )
    assert {(each["name"], each["id"]) for each in added} == {("lollms", 0), ('Pirate "Ann"', 1)}
    assert StateFile(house.state).read().personalities == ("english/generic/lollms", "english/fun/pirate")


async def test_what_a_provider_warns_of_is_told(house: House) -> None:
    house.fields["fake"] = {"on_load": "warn=no models for this key"}
    program = await house.program()
    assert (await program.select("fake"))["warning"] == "no models for this key"
    listed = await program.ask("list_available_models", reply="available_models_list")
    assert listed["warning"] == "no models for this key"
