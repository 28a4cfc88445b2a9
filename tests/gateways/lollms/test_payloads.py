"""What programs send, and the forms of refusals."""

import pytest
from waifu_lollms.payloads import (
    FORMS,
    REFUSED,
    Refused,
    busy,
    echo,
    generation_failed,
    integer,
    is_raw,
    name_of,
    read,
    shown,
    text,
    unknown_event,
)

HALF = "half a character: \ud800"


@pytest.mark.parametrize(
    ("arguments", "payload"),
    [
        ((), {}),
        ((None,), {}),
        (({},), {}),
        (({"prompt": "Hi", "more": 1},), {"prompt": "Hi", "more": 1}),
        (({"prompt": "Hi"}, "more"), {"prompt": "Hi"}),
        (("Hi",), {"prompt": "Hi"}),
        (("Hi", -1, 10), {"prompt": "Hi", "personality": -1, "n_predicts": 10}),
        (
            ("Hi", -1, 10, {"seed": 1}, "more"),
            {"prompt": "Hi", "personality": -1, "n_predicts": 10, "parameters": {"seed": 1}},
        ),
        ((None, 0), {"prompt": None, "personality": 0}),
        ((["Hi"],), {"prompt": ["Hi"]}),
    ],
)
def test_arguments_are_a_payload_or_taken_by_position(arguments: tuple[object, ...], payload: object) -> None:
    assert read(FORMS["generate_text"], arguments) == payload


def test_an_event_without_fields_takes_anything() -> None:
    assert read(FORMS["list_available_bindings"], ("a", 2, [])) == {}


def test_a_text_is_one() -> None:
    assert text({"prompt": "Grüße 👋\0"}, "prompt") == "Grüße 👋\0"
    assert text({"prompt": ""}, "prompt") == ""
    assert name_of({"path": "a/b"}, "path") == "a/b"


@pytest.mark.parametrize("payload", [{}, {"path": None}, {"path": ""}])
def test_a_name_must_be_there(payload: dict[str, object]) -> None:
    with pytest.raises(Refused, match="`path` is missing"):
        name_of(payload, "path")


@pytest.mark.parametrize("value", [1, 1.5, True, ["Hi"], {"text": "Hi"}, b"Hi"])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="`prompt` must be a text"):
        text({"prompt": value}, "prompt")


def test_half_a_character_is_refused() -> None:
    with pytest.raises(Refused, match="Unicode"):
        text({"prompt": HALF}, "prompt")


@pytest.mark.parametrize(("value", "number"), [(None, None), (0, 0), (-1, -1), (2.0, 2), ("3", 3), (" -1 ", -1)])
def test_a_whole_number_may_come_as_a_text(value: object, number: int | None) -> None:
    assert integer({"id": value}, "id") == number
    assert integer({}, "id") is None


@pytest.mark.parametrize("value", [True, 1.5, float("nan"), float("inf"), "", "one", "1.5", [1], {}, "9" * 5000])
def test_what_is_no_whole_number_is_refused(value: object) -> None:
    with pytest.raises(Refused, match="`id` must be a whole number"):
        integer({"id": value}, "id")


@pytest.mark.parametrize(
    ("value", "raw"), [(-1, True), ("-1", True), (-1.0, True), (0, False), (None, False), ([], False)]
)
def test_minus_one_is_raw(value: object, raw: bool) -> None:
    assert is_raw({"personality": value}) is raw


def test_what_is_said_back_is_short_and_valid() -> None:
    assert echo({"name": "x" * 1000}, "name") == "x" * 256
    assert [echo({"name": value}, "name") for value in (None, 5, ["x"], HALF)] == ["", "", "", ""]
    assert shown("x" * 1000) == "x" * 256
    assert shown("\ud800") == "?"


@pytest.mark.parametrize("event", sorted(FORMS))
def test_every_event_has_a_reply_that_says_that_it_failed(event: str) -> None:
    replies = FORMS[event].refuse("no", {"prompt": "Hi", "binding_name": "b", "model_name": "m"})
    assert replies
    for name, payload in replies:
        assert name
        if name == "generation_canceled":
            assert payload == {"message": "no", "text": "", "request_id": None}
        else:
            assert payload["error"] == "no"
            assert payload.get("success", False) is False


def test_refusals_have_the_published_fields() -> None:
    said = {"prompt": "Hi", "binding_name": "b", "model_name": "m"}
    failed = {"success": False, "error": "no"}
    expected = {
        "select_binding": (("select_binding", {**failed, "binding_name": "b"}),),
        "select_model": (("select_model", {**failed, "model_name": "m"}),),
        "activate_personality": (("personality_add_failed", failed), ("activate_personality", failed)),
        "add_personality": (("personality_add_failed", failed),),
        "tokenize": (("tokenized", {"tokens": [], "error": "no"}),),
        "detokenize": (("detokenized", {"text": "", "error": "no"}),),
        "embed": (("embeded", {"text": "Hi", "embedding": [], "error": "no"}),),
        "vectorize_text": (("vectorized_db", {"status": False, "error": "no"}),),
        "query_database": (("vector_db_query", {"status": False, "error": "no"}),),
        "list_available_models": (("available_models_list", failed),),
        "generate_text": generation_failed("no", "", None),
    }
    assert {event: FORMS[event].refuse("no", said) for event in expected} == expected


def test_what_is_never_supported_is_an_event_of_the_table() -> None:
    assert REFUSED.keys() < FORMS.keys()


def test_both_names_of_busy_are_said() -> None:
    assert busy("wait") == (("buzzy", {"message": "wait"}), ("busy", {"message": "wait"}))


def test_an_unknown_event_is_named() -> None:
    error = "there is no event 'make_coffee'"
    assert unknown_event("make_coffee") == (
        ("unknown_event", {"success": False, "event": "make_coffee", "error": error}),
    )
