"""The published events, each in its good and its bad forms: python-socketio's client, the real gateway and module."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.published_client import TRANSPORTS, Published, blocking, published
from support.running_module import running_module

LONG = "word " * 200  # far more chunks than one answer to a poll may hold packets
MODEL = {
    "title", "icon", "license", "owner", "owner_link", "description", "isInstalled", "path", "filesize", "model_type"
}  # fmt: skip
SETTINGS: dict[str, object] = {"enabled": True, "port": 0, "events_per_s": 1000}
CARD = {"name", "title", "author", "version", "description", "link", "category", "installed", "size_bytes"}
PERSONALITY = {"folder", "name", "description", "author", "version", "has_scripts", "has_logo", "avatar"}


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def address(home: Path, installed: Callable[..., None]) -> AsyncIterator[str]:
    """A gateway that nobody has talked to."""
    installed("echo", "lollms")
    async with running_module(home, gateways={"lollms": SETTINGS}) as module:
        yield await module.gateway_address("lollms")


@pytest.fixture
async def program(address: str, transport: str) -> AsyncIterator[Published]:
    async with published(address, transport) as client:
        yield client


async def test_bindings_and_models(program: Published) -> None:
    none = await program.ask("list_available_models", reply="available_models_list")
    assert none == {"success": False, "error": "Please select a binding first"}
    listed = await program.ask("list_available_bindings", reply="bindings_list")
    assert listed["success"] is True
    for binding in listed["bindings"]:
        assert {"name", "card", "models"} <= set(binding)
        assert set(binding["card"]) == CARD
    echo = next(binding for binding in listed["bindings"] if binding["name"] == "echo")
    assert echo["models"] == []
    assert (echo["card"]["installed"], echo["card"]["size_bytes"] > 0) == (True, True)
    too_early = await program.ask("select_model", {"model_name": "echo"})
    assert too_early == {"success": False, "model_name": "echo", "error": "Please select a binding first"}

    selected = await program.ask("select_binding", {"binding_name": "echo"})
    assert selected == {"success": True, "binding_name": "echo", "model_name": "echo"}
    models = await program.ask("list_available_models", reply="available_models_list")
    assert models["success"] is True
    for model in models["available_models"]:
        assert set(model) == MODEL
        assert (model["isInstalled"], type(model["filesize"])) == (True, int)
    titles = [model["title"] for model in models["available_models"]]
    for title in titles:
        assert await program.ask("select_model", {"model_name": title}) == {"success": True, "model_name": title}
    listed = await program.ask("list_available_bindings", reply="bindings_list")
    assert next(binding["models"] for binding in listed["bindings"] if binding["name"] == "echo") == titles

    missing = await program.ask("select_model", {"model_name": "no such"})
    assert (missing["success"], missing["model_name"]) == (False, "no such")
    assert "no such" in missing["error"]
    missing = await program.ask("select_binding", {"binding_name": "no such"})
    assert (missing["success"], missing["binding_name"]) == (False, "no such")
    assert "echo" in missing["error"]
    models = await program.ask("list_available_models", reply="available_models_list")
    assert models["model_name"] == titles[-1]


async def test_personalities(program: Published, address: str) -> None:
    listed = await program.ask("list_available_personalities", reply="personalities_list")
    assert (listed["success"], listed["errors"]) == (True, [])
    languages = await program.ask(
        "list_available_personalities_languages", reply="available_personalities_languages_list"
    )
    assert languages == {"success": True, "available_personalities_languages": sorted(listed["personalities"])}
    for language, there in listed["personalities"].items():
        categories = await program.ask(
            "list_available_personalities_categories",
            {"language": language},
            reply="available_personalities_categories_list",
        )
        assert categories == {"success": True, "available_personalities_categories": sorted(there)}
        for category, members in there.items():
            names = await program.ask(
                "list_available_personalities_names",
                {"language": language, "category": category},
                reply="list_available_personalities_names_list",
            )
            folders = [member["folder"] for member in members]
            assert names == {"success": True, "list_available_personalities_names": folders}
            for member in members:
                assert set(member) == PERSONALITY
                assert member["avatar"].startswith(f"{address}/avatars/{language}/")
    avatar = listed["personalities"]["english"]["generic"][0]["avatar"]
    async with aiohttp.ClientSession() as http, http.get(avatar) as response:
        assert (response.status, response.content_type) == (200, "image/png")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert (await response.read()).startswith(b"\x89PNG")


async def test_mounting_and_activating(program: Published, home: Path) -> None:
    mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
    assert (mounted["success"], len(mounted["personalities"])) == (True, 1)
    inside = home / "data" / "lollms" / "personalities" / "french" / "generic" / "lollms"
    added = await program.ask("add_personality", {"path": str(inside)}, reply="personality_added")
    assert (added["success"], added["id"], type(added["name"])) == (True, 1, str)
    assert added["welcome_message"]
    for path in ("french/generic/lollms", "french/generic/lollms/", str(inside)):
        assert (await program.ask("add_personality", {"path": path}, reply="personality_added"))["id"] == 1
    assert (await program.ask("add_personality", {"path": "generic/lollms"}, reply="personality_added"))["id"] == 0
    activated = await program.ask("activate_personality", {"id": 1})
    assert activated == {"success": True, "name": added["name"], "id": 1}
    activated = await program.ask("activate_personality", {"personality_name": mounted["personalities"][0]})
    assert activated == {"success": True, "name": mounted["personalities"][0], "id": 0}
    mounted = await program.ask("list_active_personalities", reply="active_personalities_list")
    assert mounted["personalities"][1] == added["name"]
    written = (home / "data" / "lollms" / "lollms.yaml").read_text("utf-8")
    assert "french/generic/lollms" in written


async def test_a_generation_and_its_cancel(program: Published) -> None:
    await program.select("echo")
    await program.send("generate_text", {"prompt": LONG, "personality": -1, "n_predicts": 4096})
    chunks, done = await program.generated()
    assert len(chunks) > 100
    assert "".join(chunks) == done["text"] == LONG
    idle = await program.ask("cancel_generation", {}, reply="generation_canceled")
    assert (set(idle), idle["text"], idle["request_id"]) == ({"message", "text", "request_id"}, "", None)

    await program.select("echo-slow")
    for cancel, personality in (("cancel_generation", -1), ("cancel_text_generation", 0)):
        await program.send("generate_text", {"prompt": LONG, "personality": personality})
        first = await program.reply("text_chunk")
        assert set(first) == {"chunk", "type", "request_id"}
        await program.send(cancel)
        heard = [first["chunk"]]
        while (event := await program.next())[0] == "text_chunk":
            heard.append(event[1]["chunk"])
        assert event[0] == "generation_canceled"
        assert (event[1]["text"], event[1]["request_id"]) == ("".join(heard), first["request_id"])
        if personality == 0:
            done = await program.reply("text_generated")
            assert (done["text"], done["request_id"]) == ("".join(heard), first["request_id"])
    await program.select("echo")
    assert await program.generate("and on it goes") == "and on it goes"


async def test_what_is_not_there_says_so(program: Published) -> None:
    for event, payload, reply, rest in (
        ("tokenize", {"prompt": "a b"}, "tokenized", {"tokens": []}),
        ("detokenize", {"prompt": [1, 2]}, "detokenized", {"text": ""}),
        ("detokenize", {"tokens": [1, 2]}, "detokenized", {"text": ""}),
        ("embed", {"prompt": "a b"}, "embeded", {"text": "a b", "embedding": []}),
        ("vectorize_text", {"path": "/etc/passwd"}, "vectorized_db", {"status": False}),
        ("query_database", {"query": "x"}, "vector_db_query", {"status": False}),
    ):
        answer = await program.ask(event, payload, reply=reply)
        assert answer.pop("error").startswith("not supported"), event
        assert answer == rest, event


EVENTS = {
    "list_available_bindings": "bindings_list",
    "list_available_personalities": "personalities_list",
    "list_available_models": "available_models_list",
    "list_available_personalities_languages": "available_personalities_languages_list",
    "list_available_personalities_categories": "available_personalities_categories_list",
    "list_available_personalities_names": "list_available_personalities_names_list",
    "select_binding": "select_binding",
    "select_model": "select_model",
    "add_personality": "personality_add_failed",
    "activate_personality": "personality_add_failed",
    "list_active_personalities": "active_personalities_list",
    "generate_text": "generation_error",
    "cancel_generation": "generation_canceled",
    "cancel_text_generation": "generation_canceled",
    "tokenize": "tokenized",
    "detokenize": "detokenized",
    "embed": "embeded",
    "vectorize_text": "vectorized_db",
    "query_database": "vector_db_query",
}
CANCELS = ("cancel_generation", "cancel_text_generation")
ALWAYS = (
    "list_available_bindings",
    "list_available_personalities",
    "list_available_models",
    "list_available_personalities_languages",
    "list_active_personalities",
)
FIELDS = ("binding_name", "model_name", "path", "id", "personality_name", "language", "category", "prompt")
# Python's client cannot send NaN as JSON that others read, so that stands in the tests of the packets.
PAYLOADS: list[tuple[object, ...]] = [
    (),
    (None,),
    ({},),
    (-1,),
    (10**400,),
    (True,),
    ([[]],),
    (b"\x00\xff",),
    (None, None, None),
    ({name: {"deep": [b"\x00", {"er": None}]} for name in FIELDS},),
    ({"prompt": 7, "personality": "me", "n_predicts": [], "id": "x", "path": 1.5, "binding_name": 0},),
    ({"prompt": "x", "personality": 99},),
    ({"prompt": "x", "personality": -2},),
    ({"prompt": "x", "personality": 0, "parameters": "hot"},),
]


async def test_every_event_answers_every_bad_payload_and_goes_on(program: Published) -> None:
    await program.select("echo")
    for event, reply in EVENTS.items():
        for payload in PAYLOADS:
            answer = await program.ask(event, *payload, reply=reply)
            said = (event, payload, answer)
            if event in ALWAYS:
                assert answer["success"] is True, said
                continue
            if event in CANCELS:
                assert (answer["text"], answer["request_id"]) == ("", None), said
                continue
            assert isinstance(answer["error"], str), said
            assert answer["error"], said
            if event == "generate_text":
                done = await program.reply("text_generated")
                assert (done["text"], done["error"]) == ("", answer["error"]), said
            elif event not in ("tokenize", "detokenize", "embed"):
                assert answer.get("success", answer.get("status")) is False, said
            if event == "activate_personality":
                assert await program.reply(event) == answer
    assert await program.generate("still there") == "still there"


async def test_old_names_of_fields_and_positions(program: Published) -> None:
    await program.ask("select_binding", "echo")
    assert (await program.ask("select_model", "echo"))["success"] is True
    names = await program.ask(
        "list_available_personalities_names", "english", "generic", reply="list_available_personalities_names_list"
    )
    assert "lollms" in names["list_available_personalities_names"]
    assert (await program.ask("activate_personality", 0))["id"] == 0
    await program.send("generate_text", "positional", -1, 5, {"temperature": 0.5})
    assert (await program.generated())[1]["text"] == "positional"
    sampling: dict[str, Any] = {"temperature": "0.7", "top_k": 5.0, "seed": None, "n_crop": 100, "repeat_penalty": ""}
    assert await program.generate("beside", **sampling) == "beside"
    assert await program.generate("within", parameters=sampling, n_predicts="20") == "within"
    await program.send("generate_text", {"prompt": "whoever is active"})
    assert (await program.generated())[1]["text"] == "whoever is active"


async def test_events_named_like_the_life_of_a_connection_are_events(program: Published) -> None:
    for name in ("connect", "disconnect", "no such event"):
        answer = await program.ask(name, {"some": "thing"}, reply="unknown_event")
        assert (answer["success"], answer["event"]) == (False, name)
    await program.select("echo")
    assert await program.generate("the same program") == "the same program"


async def test_an_acknowledgement_that_is_asked_for_comes(program: Published) -> None:
    assert await program.client.call("list_active_personalities", timeout=20) in (None, [], ())
    assert (await program.reply("active_personalities_list"))["success"] is True


async def test_a_blocking_program_that_does_all_in_its_handler_of_the_connection(address: str) -> None:
    """As the published examples do, with the transport that has nothing but `requests` beneath it."""
    prompts = [f"{number} {LONG}" for number in range(3)]
    program = await blocking(address, "polling", prompts)
    assert program.texts == prompts
    assert "".join(program.chunks) == "".join(prompts)
