"""The published JavaScript client of Socket.IO against the real gateway over the real module, on every transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from support.javascript_client import JavaScript, JavaScriptSocket, Payload, javascript
from support.running_module import running_module

TRANSPORTS = {
    "polling": ("polling",),
    "websocket": ("websocket",),
    "upgrade": ("polling", "websocket"),
}
MANY = 50
NOT_SUPPORTED = "not supported"


@pytest.fixture(params=TRANSPORTS)
def transports(request: pytest.FixtureRequest) -> tuple[str, ...]:
    name: str = request.param
    return TRANSPORTS[name]


@pytest.fixture
async def gateway(home: Path, installed: Callable[..., None]) -> AsyncIterator[str]:
    """The address of a gateway that nobody has talked to."""
    installed("echo", "lollms")
    async with running_module(home, gateways={"lollms": {"enabled": True, "port": 0}}) as module:
        yield await module.gateway_address("lollms")


@pytest.fixture
async def node(gateway: str, transports: tuple[str, ...]) -> AsyncIterator[JavaScript]:
    async with javascript(gateway, transports) as process:
        yield process


async def select(socket: JavaScriptSocket, model: str) -> None:
    """Echo's model is everybody's."""
    selected = await socket.ask("select_binding", {"binding_name": "echo"}, reply="select_binding")
    assert selected["success"] is True
    assert (await socket.ask("select_model", {"model_name": model}, reply="select_model"))["success"] is True


async def generated(socket: JavaScriptSocket) -> tuple[list[str], Payload]:
    """The chunks of the next generation, and what it ends with."""
    chunks: list[str] = []
    while True:
        event, arguments = await socket.next()
        if event == "upgrade":  # it comes when it comes
            continue
        (payload,) = arguments
        assert isinstance(payload, dict)
        if event == "text_generated":
            return chunks, payload
        assert event == "text_chunk"
        assert payload["type"] == 0
        chunks.append(str(payload["chunk"]))


async def test_it_connects_and_keeps_its_session_over_an_upgrade(node: JavaScript, transports: tuple[str, ...]) -> None:
    socket = node.socket()
    socket.connect()
    sid, transport = await socket.arguments("connect")
    assert sid
    if transport != transports[-1]:
        # A quick upgrade is over before the connection is told of.
        assert await socket.arguments("upgrade") == [sid, transports[-1]]
    await select(socket, "echo")
    socket.emit("generate_text", {"prompt": "the same session", "personality": -1})
    assert (await socket.payload("text_generated"))["text"] == "the same session"


async def test_every_event_of_the_table_is_answered_in_its_good_form(node: JavaScript) -> None:
    one = await node.connected()
    bindings = await one.ask("list_available_bindings", {}, reply="bindings_list")
    assert bindings["success"] is True
    assert isinstance(bindings["bindings"], list)
    (echo,) = [binding for binding in bindings["bindings"] if binding["name"] == "echo"]
    card = {"name", "title", "author", "version", "description", "link", "category", "installed", "size_bytes"}
    assert card <= set(echo["card"])
    assert echo["card"]["installed"] is True

    selected = await one.ask("select_binding", {"binding_name": "echo"}, reply="select_binding")
    assert selected == {"success": True, "binding_name": "echo", "model_name": "echo"}
    models = await one.ask("list_available_models", {}, reply="available_models_list")
    assert isinstance(models["available_models"], list)
    assert [model["title"] for model in models["available_models"]] == ["echo", "echo-slow", "lorem"]
    selected = await one.ask("select_model", {"model_name": "lorem"}, reply="select_model")
    assert selected == {"success": True, "model_name": "lorem"}

    languages = await one.ask(
        "list_available_personalities_languages", {}, reply="available_personalities_languages_list"
    )
    assert languages == {"success": True, "available_personalities_languages": ["english", "french"]}
    categories = await one.ask(
        "list_available_personalities_categories",
        {"language": "english"},
        reply="available_personalities_categories_list",
    )
    assert "generic" in str(categories["available_personalities_categories"])
    names = await one.ask(
        "list_available_personalities_names",
        {"language": "english", "category": "generic"},
        reply="list_available_personalities_names_list",
    )
    assert "lollms" in str(names["list_available_personalities_names"])
    personalities = await one.ask("list_available_personalities", {}, reply="personalities_list")
    assert isinstance(personalities["personalities"], dict)
    assert {"english", "french"} == set(personalities["personalities"])

    added = await one.ask("add_personality", {"path": "french/generic/lollms"}, reply="personality_added")
    assert (added["success"], added["id"]) == (True, 1)
    activated = await one.ask("activate_personality", {"id": 1}, reply="activate_personality")
    assert activated == {"success": True, "name": added["name"], "id": 1}
    mounted = await one.ask("list_active_personalities", {}, reply="active_personalities_list")
    assert isinstance(mounted["personalities"], list)
    assert mounted["personalities"][1] == added["name"]

    one.emit("generate_text", {"prompt": "Hi", "personality": -1, "n_predicts": 3})
    chunks, end = await generated(one)
    assert chunks == ["lorem", " ipsum", " dolor"]
    assert end["text"] == "lorem ipsum dolor"
    canceled = await one.ask("cancel_generation", {}, reply="generation_canceled")
    assert (canceled["text"], canceled["request_id"]) == ("", None)

    for event, payload, reply, empty in (
        ("tokenize", {"prompt": "a b"}, "tokenized", {"tokens": []}),
        ("detokenize", {"tokens": [1, 2]}, "detokenized", {"text": ""}),
        ("embed", {"prompt": "a b"}, "embeded", {"text": "a b", "embedding": []}),
        ("vectorize_text", {"chunk_size": 5, "path": "/etc"}, "vectorized_db", {"status": False}),
        ("query_database", {"query": "x"}, "vector_db_query", {"status": False}),
    ):
        answer = await one.ask(event, payload, reply=reply)
        assert NOT_SUPPORTED in str(answer.pop("error"))
        assert answer == empty


BAD = [
    ("select_binding", {"binding_name": "no_such"}, "select_binding"),
    ("select_binding", {"binding_name": 7}, "select_binding"),
    ("select_binding", None, "select_binding"),
    ("select_binding", {"binding_name": "../../etc"}, "select_binding"),
    ("select_model", {"model_name": "echo"}, "select_model"),
    ("list_available_models", {}, "available_models_list"),
    ("list_available_personalities_categories", {"language": "klingon"}, "available_personalities_categories_list"),
    ("list_available_personalities_categories", {}, "available_personalities_categories_list"),
    (
        "list_available_personalities_names",
        {"language": "english", "category": ".."},
        "list_available_personalities_names_list",
    ),
    ("add_personality", {"path": "../../../etc/passwd"}, "personality_add_failed"),
    ("add_personality", {"path": "english/generic/\0"}, "personality_add_failed"),
    ("add_personality", {"path": ["english"]}, "personality_add_failed"),
    ("add_personality", "", "personality_add_failed"),
    ("activate_personality", {"id": 99}, "activate_personality"),
    ("activate_personality", {"id": "one"}, "activate_personality"),
    ("activate_personality", {"personality_name": "nobody"}, "activate_personality"),
]


async def test_every_bad_payload_is_answered_and_the_next_good_one_works(node: JavaScript) -> None:
    one = await node.connected()
    for event, payload, reply in BAD:
        answer = await one.ask(event, *(() if payload is None else (payload,)), reply=reply)
        assert answer["success"] is False, (event, payload)
        assert answer["error"], (event, payload)
    for payload in ({"prompt": "Hi"}, {"personality": -1}, {"prompt": "Hi", "personality": 99}, {"prompt": 7}, [], 3):
        one.emit("generate_text", payload)
        assert (await one.payload("generation_error"))["error"], payload
        end = await one.payload("text_generated")
        assert end["error"], payload
        assert end["text"] == "", payload
    await select(one, "echo")
    one.emit("generate_text", {"prompt": "still there", "personality": -1})
    assert (await one.payload("text_generated"))["text"] == "still there"


async def test_a_cancel_stops_the_stream_and_nothing_of_it_follows(node: JavaScript) -> None:
    one = await node.connected()
    await select(one, "echo-slow")
    one.emit("generate_text", {"prompt": "word " * 500, "personality": -1})
    await one.arguments("text_chunk")
    canceled = await one.ask("cancel_generation", {}, reply="generation_canceled")
    assert str(canceled["text"]).startswith("word ")
    await select(one, "echo")
    one.emit("generate_text", {"prompt": "the next one", "personality": -1})
    chunks, end = await generated(one)
    assert "".join(chunks) == end["text"] == "the next one"
    assert end["request_id"] != canceled["request_id"]


async def test_one_that_disappears_in_mid_stream_leaves_the_others_alone(node: JavaScript) -> None:
    leaving, staying = await node.connected("leaving"), await node.connected("staying")
    await select(leaving, "echo-slow")
    for socket in (leaving, staying):
        socket.emit("generate_text", {"prompt": "one two three four", "personality": -1})
    await leaving.arguments("text_chunk")
    leaving.disconnect()
    _, end = await generated(staying)
    assert end["text"] == "one two three four"


async def test_fifty_clients_generating_at_once_keep_apart(node: JavaScript) -> None:
    names = [f"client-{number}" for number in range(MANY)]
    sockets = [node.socket(name) for name in names]
    for socket in sockets:
        socket.connect()
    await asyncio.gather(*(socket.arguments("connect") for socket in sockets))
    await select(sockets[0], "echo")
    for name, socket in zip(names, sockets, strict=True):
        socket.emit(
            "generate_text", {"prompt": f"only {name} gets this", "personality": 0 if name[-1] in "02468" else -1}
        )
    ends = await asyncio.gather(*(socket.payload("text_generated") for socket in sockets))
    assert [end["text"] for end in ends] == [f"only {name} gets this" for name in names]
    assert len({end["request_id"] for end in ends}) == MANY


async def test_a_program_written_to_the_old_document_works(node: JavaScript) -> None:
    """It sends no `n_predicts`, no payload to a cancel, and events named like the life of a connection."""
    old = await node.connected()
    for event, payload in (("connect", ()), ("disconnect", ()), ("connect", ({"some": "thing"},))):
        assert (await old.ask(event, *payload, reply="unknown_event"))["event"] == event
    await select(old, "echo")
    old.emit("generate_text", {"prompt": "Hello", "personality": -1, "temperature": 0.7, "n_crop": 100})
    assert (await old.payload("text_generated"))["text"] == "Hello"
    old.emit("generate_text", "positional words", -1)
    assert (await old.payload("text_generated"))["text"] == "positional words"
    await select(old, "echo-slow")
    old.emit("generate_text", {"prompt": "word " * 500, "personality": -1})
    await old.arguments("text_chunk")
    assert (await old.ask("cancel_generation", reply="generation_canceled"))["request_id"]
    assert await old.ask("no_such_event", {"a": 1}, reply="unknown_event")


async def test_a_select_of_one_is_what_another_generates_with(node: JavaScript) -> None:
    chooser, other = await node.connected("chooser"), await node.connected("other")
    await select(chooser, "lorem")
    other.emit("generate_text", {"prompt": "Hi", "personality": -1, "n_predicts": 2})
    assert (await other.payload("text_generated"))["text"] == "lorem ipsum"


async def test_without_the_token_a_client_is_refused_with_a_sentence_and_with_it_let_in(
    home: Path, installed: Callable[..., None], transports: tuple[str, ...], tmp_path: Path
) -> None:
    installed("echo", "lollms")
    file = tmp_path / "token"
    file.touch(mode=0o600)
    file.write_text("open-sesame", "utf-8")
    settings = {"enabled": True, "port": 0, "token_file": str(file)}
    async with running_module(home, gateways={"lollms": settings}) as module:
        address = await module.gateway_address("lollms")
        async with javascript(address, transports) as node:
            for number, auth in enumerate((None, {"token": "wrong"}, {"token": 7})):
                refused = node.socket(f"refused-{number}")
                refused.connect(auth)
                (message,) = await refused.arguments("connect_error", "connect")
                assert "token" in str(message)
            await node.connected("welcome", {"token": "open-sesame"})
