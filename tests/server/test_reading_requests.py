"""One frame in, a request or a refusal out: the tables of PROTOCOL.md, field by field."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_client.protocol import (
    Close,
    ErrorCode,
    Generate,
    GetModels,
    GetProviders,
    GetStats,
    Interrupt,
    Load,
    Message,
    Unload,
    encode_request,
)
from waifu_llm.requests import Refused, Unreadable, read_fields, read_request

LOAD = {"type": "load", "unique_request_id": "1", "provider": "echo"}
PARAMS = {"model_id": "m"}
USER = {"role": "user", "content": "hi"}
GENERATE = {"type": "generate", "unique_request_id": "1", "params": PARAMS, "messages": [USER]}
ABSENT = object()


def faults(field: str, code: ErrorCode, *values: Any) -> list[tuple[str, Any, ErrorCode]]:
    return [(field, value, code) for value in values]


def read(message: dict[str, Any]) -> Any:
    return read_request(json.dumps({k: v for k, v in message.items() if v is not ABSENT}))


def load(**fields: Any) -> Any:
    return read({**LOAD, **fields})


def generate(**fields: Any) -> Any:
    return read({**GENERATE, **fields})


def params(**fields: Any) -> Any:
    return generate(params={k: v for k, v in {**PARAMS, **fields}.items() if v is not ABSENT})


NOT_JSON: list[str | bytes] = [
    "",
    " ",
    "{",
    "}",
    "nul",
    "{} {}",
    "{},",
    "{'a': 1}",
    '{"a": 1,}',
    '{"a" 1}',
    '{"type": "close" "unique_request_id": "1"}',
    '\ufeff{"type": "close", "unique_request_id": "1"}',
    '{"type": "close", "unique_request_id": NaN}',
    '{"type": "close", "unique_request_id": Infinity}',
    '{"type": "close", "unique_request_id": -Infinity}',
    '{"type": "close", "unique_request_id": 01}',
    '{"type": "close", "unique_request_id": "\\ud800"}',
    '{"type": "close", "unique_request_id": "\\x41"}',
    '{"type": "close", "unique_request_id": "1"',
    '{"type": "close", "unique_request_id": "\n"}',
    "\ud800",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b'{"type": "close", "unique_request_id": "\xff"}',
    b'{"type": "close", "unique_request_id": "1", "extra": "\xff"}',
    b"\x00",
    "[" * 100_000,
    '{"a":' * 100_000,
    '{"type": "close", "unique_request_id": "1", "x": ' + "[" * 100_000 + "]" * 100_000 + "}",
]
NO_OBJECT = ["null", "true", "1", "-1.5", '"close"', "[]", '[{"type": "close"}]', "0e1"]
NO_REQUEST: list[dict[str, Any]] = [
    {},
    {"type": "close"},
    {"type": "close", "unique_request_id": ""},
    {"type": "close", "unique_request_id": None},
    {"type": "close", "unique_request_id": True},
    {"type": "close", "unique_request_id": 1.0},
    {"type": "close", "unique_request_id": 1e300},
    {"type": "close", "unique_request_id": 2**64},
    {"type": "close", "unique_request_id": -(2**63) - 1},
    {"type": "close", "unique_request_id": ["1"]},
    {"type": "close", "unique_request_id": {"a": 1}},
    {"type": "close", "unique_request_id": "x" * 257},
    {"type": "close", "unique_request_id": "x" * 1_000_000},
]
NO_TYPE: list[Any] = [ABSENT, None, "", 1, True, [], {}, "nonsense", "CLOSE", "close ", "generate_streamed", "load_ack"]


@pytest.mark.parametrize("data", [*NOT_JSON, *NO_OBJECT])
def test_what_is_no_json_object_is_unreadable_without_an_id(data: str | bytes) -> None:
    reading = read_request(data)
    assert isinstance(reading, Unreadable)
    assert reading.unique_request_id == ""
    assert 0 < len(reading.message) <= 300


@pytest.mark.parametrize("message", NO_REQUEST)
def test_without_a_good_id_it_is_unreadable(message: dict[str, Any]) -> None:
    reading = read(message)
    assert isinstance(reading, Unreadable)
    assert reading.unique_request_id == ""


@pytest.mark.parametrize("kind", NO_TYPE)
def test_without_a_known_type_it_is_unreadable_with_its_id(kind: Any) -> None:
    assert isinstance(reading := read({"type": kind, "unique_request_id": "1"}), Unreadable)
    assert reading.unique_request_id == "1"


def test_an_integer_of_thousands_of_digits_is_no_id() -> None:
    assert isinstance(read_request('{"type": "close", "unique_request_id": ' + "9" * 5000 + "}"), Unreadable)


@pytest.mark.parametrize(
    "request_id",
    ["1", "x" * 256, "\x00", "\n", "\u202eabc", "😀" * 256, " ", 0, -1, 2**53, 2**64 - 1, -(2**63)],
)
def test_an_id_is_kept_as_it_came(request_id: str | int) -> None:
    reading = read({"type": "close", "unique_request_id": request_id})
    assert reading == Close(unique_request_id=request_id)


def test_a_binary_frame_reads_as_a_text_one() -> None:
    assert read_request(json.dumps(LOAD).encode()) == read_request(json.dumps(LOAD))


@pytest.mark.parametrize(
    "request_",
    [
        Load(unique_request_id="1", provider="echo"),
        Load(unique_request_id="1", provider="echo", api_key="k", preload_model_id="m", timeout_ms=5, progress=True),
        Load(unique_request_id="1", provider="echo", fields={"base_url": "http://x", "n": 1, "list": ["a"]}),
        Generate(unique_request_id=7, params=read({**GENERATE}).params, messages=[Message("user", "hi", "Bob")]),
        Generate(unique_request_id="1", params=read({**GENERATE}).params, prompt="raw", stream=True, provider="echo"),
        Interrupt(unique_request_id="1"),
        Interrupt(unique_request_id="1", target_request_id=7),
        Interrupt(unique_request_id="1", scope="all"),
        Close(unique_request_id="1"),
        GetProviders(unique_request_id="1"),
        GetModels(unique_request_id="1"),
        GetModels(unique_request_id="1", provider="echo"),
        Unload(unique_request_id="1", provider="echo"),
        GetStats(unique_request_id="1"),
    ],
)
def test_what_a_client_encodes_is_what_is_read(request_: Any) -> None:
    assert read_request(encode_request(request_)) == request_


def test_unknown_fields_are_ignored_and_a_loads_own_ones_kept() -> None:
    assert generate(new_thing={"a": [1]}) == generate()
    assert load(new_thing={"a": [1]}, base_url="http://x", empty="", nothing=None).fields == {
        "new_thing": {"a": [1]},
        "base_url": "http://x",
    }


@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
@pytest.mark.parametrize("field", ["api_key", "preload_model_id", "progress"])
def test_null_and_empty_mean_absent_in_a_load(field: str, nothing: Any) -> None:
    assert load(**{field: nothing}) == load()


@pytest.mark.parametrize(("given", "meant"), [(ABSENT, None), (None, None), (0, None), (1, 1), (2**53 - 1, 2**53 - 1)])
def test_a_loads_timeout_is_none_for_null_and_0(given: Any, meant: int | None) -> None:
    assert load(timeout_ms=given).timeout_ms == meant


LOAD_FAULTS: list[tuple[str, Any, ErrorCode]] = [
    *faults("provider", ErrorCode.INVALID_PROVIDER, ABSENT, None, "", 1, True, [], {}),
    *faults("api_key", ErrorCode.AUTHORIZATION, 1, True, [], {}, ["k"], "k" * 8193),
    *faults("preload_model_id", ErrorCode.INVALID_MODEL, 1, True, [], {}),
    *faults("timeout_ms", ErrorCode.UNEXPECTED, "", "1", -1, 1.5, True, [], 2**53, 2**70),
    *faults("progress", ErrorCode.UNEXPECTED, 1, "true", []),
]


@pytest.mark.parametrize(("field", "value", "code"), LOAD_FAULTS)
def test_a_wrong_field_of_a_load_has_its_code(field: str, value: Any, code: ErrorCode) -> None:
    reading = load(**{field: value})
    assert isinstance(reading, Refused)
    assert (reading.type, reading.unique_request_id, reading.code) == ("load", "1", code)
    assert reading.provider == ("" if field == "provider" else "echo")
    assert field in reading.message


def test_a_load_field_with_a_number_no_float_can_hold_is_unexpected() -> None:
    reading = read_request('{"type": "load", "unique_request_id": "1", "provider": "echo", "num_ctx": 1e999}')
    assert isinstance(reading, Refused)
    assert reading.code == ErrorCode.UNEXPECTED


def test_a_load_says_nothing_of_its_key_in_its_repr() -> None:
    assert "secret" not in repr(load(api_key="secret", password="secret"))


@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
@pytest.mark.parametrize("field", ["stream", "provider", "prompt"])
def test_null_and_empty_mean_absent_in_a_generate(field: str, nothing: Any) -> None:
    assert generate(**{field: nothing}) == generate()


@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
@pytest.mark.parametrize(
    "field",
    "character_name temperature max_output_length top_p top_k min_p repeat_penalty repeat_last_n presence_penalty "
    "frequency_penalty seed".split(),
)
def test_null_and_empty_mean_absent_in_the_params(field: str, nothing: Any) -> None:
    assert params(**{field: nothing}) == generate()


def test_the_params_that_are_absent_have_their_published_values() -> None:
    got = generate().params
    assert (got.character_name, got.temperature, got.max_output_length) == ("AI", 1.0, 200)
    assert (got.stop_tokens, got.timeout_ms) == (None, 60_000)


@pytest.mark.parametrize(("given", "meant"), [(None, None), (0, 0), (1, 1), (ABSENT, 60_000)])
def test_a_timeout_of_null_is_a_value(given: Any, meant: int | None) -> None:
    assert params(timeout_ms=given).params.timeout_ms == meant


@pytest.mark.parametrize(
    ("given", "meant"),
    [(ABSENT, None), (None, None), ([], []), (["a", ""], ["a"]), ([""], []), ([1, "b", 0], [1, "b", 0])],
)
def test_stop_tokens_are_texts_and_token_ids_without_empty_ones(given: Any, meant: Any) -> None:
    assert params(stop_tokens=given).params.stop_tokens == meant


PARAM_FAULTS: list[tuple[str, Any, ErrorCode]] = [
    *faults("model_id", ErrorCode.INVALID_MODEL, ABSENT, None, "", 1, True, [], {}),
    *faults("character_name", ErrorCode.INVALID_PROMPT, 1, True, []),
    *faults("temperature", ErrorCode.INVALID_PROMPT, -0.1, 1001, "1", True, []),
    *faults("max_output_length", ErrorCode.INVALID_PROMPT, 0, -1, 1.5, "1", True, 2**31, 2**70),
    *faults("stop_tokens", ErrorCode.INVALID_PROMPT, "", "a", 1, [None], [1.5], [-1], [True], {}),
    *faults("timeout_ms", ErrorCode.INVALID_PROMPT, "", "1", -1, 1.5, True, 2**53, 2**70),
    *faults("top_p", ErrorCode.INVALID_PROMPT, -0.1, 1.1, "1", True),
    *faults("top_k", ErrorCode.INVALID_PROMPT, -1, 1.5, 2**31, True),
    *faults("min_p", ErrorCode.INVALID_PROMPT, -0.1, 1.1),
    *faults("repeat_penalty", ErrorCode.INVALID_PROMPT, 1001, -1001, "1"),
    *faults("repeat_last_n", ErrorCode.INVALID_PROMPT, -2, 2**31, 0.5),
    *faults("presence_penalty", ErrorCode.INVALID_PROMPT, 1e300, "1"),
    *faults("frequency_penalty", ErrorCode.INVALID_PROMPT, 1e300, []),
    *faults("seed", ErrorCode.INVALID_PROMPT, 2**53, -(2**53), 2**70, 1.5, True),
]


@pytest.mark.parametrize(("field", "value", "code"), PARAM_FAULTS)
def test_a_wrong_parameter_has_its_code(field: str, value: Any, code: ErrorCode) -> None:
    reading = params(**{field: value})
    assert isinstance(reading, Refused)
    assert (reading.type, reading.code) == ("generate", code)
    assert f"params.{field}" in reading.message


@pytest.mark.parametrize("number", ["1e999", "9" * 5000])
def test_a_number_out_of_range_is_answered_by_its_field(number: str) -> None:
    text = json.dumps(GENERATE).replace('"m"', f'"m", "temperature": {number}')
    assert isinstance(reading := read_request(text), Refused)
    assert reading.code == ErrorCode.INVALID_PROMPT


GENERATE_FAULTS: list[tuple[str, Any, ErrorCode]] = [
    *faults("params", ErrorCode.INVALID_MODEL, ABSENT, None, "", {}),
    *faults("params", ErrorCode.INVALID_PROMPT, 1, "x", [], True),
    *faults("provider", ErrorCode.INVALID_PROVIDER, 1, True, [], {}),
    *faults("stream", ErrorCode.INVALID_PROMPT, 1, "true", []),
    *faults("messages", ErrorCode.INVALID_PROMPT, ABSENT, None, "", [], {}, "hi", [1], [[]], [{}]),
    *faults("prompt", ErrorCode.INVALID_PROMPT, 1, True, [], "both"),
]


@pytest.mark.parametrize(("field", "value", "code"), GENERATE_FAULTS)
def test_a_wrong_field_of_a_generate_has_its_code(field: str, value: Any, code: ErrorCode) -> None:
    reading = generate(**{field: value})
    assert isinstance(reading, Refused)
    assert (reading.type, reading.code, reading.stream) == ("generate", code, False)
    assert field in reading.message


@pytest.mark.parametrize("stream", [True, False])
def test_a_refused_generate_remembers_whether_it_was_to_stream(stream: bool) -> None:
    assert generate(stream=stream, params=None).stream is stream


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": 1},
        {"role": "user", "content": [{"type": "image_url"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
    ],
)
def test_content_that_is_no_string_is_said_to_be_outside_the_protocol(message: dict[str, Any]) -> None:
    reading = generate(messages=[USER, message])
    assert isinstance(reading, Refused)
    assert reading.code == ErrorCode.INVALID_PROMPT
    assert "images, tool calls and embeddings are outside this protocol" in reading.message


@pytest.mark.parametrize(
    "message",
    [
        {"content": "hi"},
        {"role": None, "content": "hi"},
        {"role": "bot", "content": "hi"},
        {"role": "User", "content": "hi"},
        {"role": "user", "content": "hi", "name": 1},
    ],
)
def test_a_bad_role_or_name_is_an_invalid_prompt(message: dict[str, Any]) -> None:
    reading = generate(messages=[message])
    assert isinstance(reading, Refused)
    assert reading.code == ErrorCode.INVALID_PROMPT
    if "name" not in message:
        assert reading.message.endswith("; role is one of system, user, assistant, tool, function")


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "function"])
@pytest.mark.parametrize("name", [ABSENT, None, "", "Bob"])
def test_all_roles_with_and_without_a_name_are_taken(role: str, name: Any) -> None:
    message = {"role": role, "content": "", "extra": 1, **({} if name is ABSENT else {"name": name})}
    assert generate(messages=[message]).messages == [Message(role, "", name if name == "Bob" else None)]  # type: ignore[arg-type] # a str that is one of the literals


def test_a_prompt_stands_alone_or_beside_no_messages() -> None:
    assert generate(messages=ABSENT, prompt="raw").prompt == "raw"
    assert generate(messages=[], prompt="raw").prompt == "raw"


@pytest.mark.parametrize(
    "fields",
    [
        *({field: value} for field, value, _ in faults("target_request_id", ErrorCode.UNEXPECTED, True, 1.5, [], {})),
        *({field: value} for field, value, _ in faults("scope", ErrorCode.UNEXPECTED, 1, "mine", True, [])),
    ],
)
def test_a_wrong_field_of_an_interrupt_is_refused(fields: dict[str, Any]) -> None:
    reading = read({"type": "interrupt", "unique_request_id": "1", **fields})
    assert isinstance(reading, Refused)
    assert reading.type == "interrupt"


@pytest.mark.parametrize("nothing", [None, ""])
def test_null_and_empty_mean_absent_in_the_small_requests(nothing: Any) -> None:
    interrupt = read({"type": "interrupt", "unique_request_id": "1", "target_request_id": nothing, "scope": nothing})
    assert interrupt == Interrupt(unique_request_id="1")
    assert read({"type": "get_models", "unique_request_id": "1", "provider": nothing}) == GetModels(
        unique_request_id="1"
    )


@pytest.mark.parametrize("value", [1, True, [], {}])
@pytest.mark.parametrize("kind", ["get_models", "unload"])
def test_a_provider_that_is_no_string_is_no_provider(kind: str, value: Any) -> None:
    reading = read({"type": kind, "unique_request_id": "1", "provider": value})
    assert isinstance(reading, Refused)
    assert (reading.type, reading.code) == (kind, ErrorCode.INVALID_PROVIDER)


@pytest.mark.parametrize("nothing", [ABSENT, None, ""])
def test_an_unload_must_name_its_provider(nothing: Any) -> None:
    reading = read({"type": "unload", "unique_request_id": "1", "provider": nothing})
    assert isinstance(reading, Refused)
    assert reading.code == ErrorCode.INVALID_PROVIDER


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_no_bytes_make_it_raise(data: str | bytes) -> None:
    assert read_request(data) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KINDS = ["load", "generate", "interrupt", "close", "get_providers", "get_models", "unload", "get_stats"]
FIELDS = ["provider", "api_key", "preload_model_id", "timeout_ms", "progress", "params", "messages", "prompt"]
FIELDS += ["stream", "target_request_id", "scope", "base_url"]


@given(st.sampled_from(KINDS), st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_a_known_type_with_an_id_is_always_answered_in_kind(kind: str, fields: dict[str, Any]) -> None:
    reading = read_request(json.dumps({**fields, "type": kind, "unique_request_id": "1"}).encode("utf-8", "replace"))
    assert not isinstance(reading, Unreadable)


ODD = [
    "null",
    '""',
    "0",
    "1",
    "-1",
    "1.0",
    "1.5",
    "1e999",
    "true",
    "[]",
    "{}",
    '"x"',
    '[""]',
    '["a",5]',
    '"\\ud800"',
    "9" * 30,
]
GOOD_FIELDS = {
    "type": ['"generate"'],
    "unique_request_id": ['"1"', "7"],
    "params": ['{"model_id":"m"}'],
    "messages": ['[{"role":"user","content":"hi"}]', '[{"role":"user","content":"","name":""}]', "[]"],
    "prompt": ['"raw"'],
    "stream": ["true", "false"],
    "provider": ['"echo"'],
    "unknown": ['{"a":[1]}'],
}
GOOD_PARAMS = {
    "model_id": ['"m"'],
    "character_name": ['"Bob"'],
    "temperature": ["0.5", "2"],
    "max_output_length": ["5"],
    "stop_tokens": ['["a",5]', "null"],
    "timeout_ms": ["0", "5", "null"],
    "top_p": ["0.5"],
    "top_k": ["3"],
    "seed": ["1"],
    "unknown": ["[[]]"],
}


def objects(fields: dict[str, list[str]], always: int) -> st.SearchStrategy[str]:
    """JSON objects of these fields, the first ones mostly there; odd values among good ones, names that come twice."""

    def pairs(name: str) -> st.SearchStrategy[str]:
        odd = st.sampled_from(ODD).map(lambda value: f'"{name}":{value}')
        good = st.sampled_from(fields[name]).map(lambda value: f'"{name}":{value}')
        return st.one_of(good, good, good, odd)

    names = list(fields)
    some = st.lists(st.sampled_from(names[always:]), max_size=4).map(lambda more: [*names[:always], *more])
    several = some.flatmap(lambda chosen: st.permutations(chosen)).flatmap(lambda all_: st.tuples(*map(pairs, all_)))
    return several.map(lambda parts: "{" + ",".join(parts) + "}")


FRAMES = st.tuples(objects(GOOD_FIELDS, 2), objects(GOOD_PARAMS, 1)).map(
    lambda both: both[0].replace(GOOD_FIELDS["params"][0], both[1])
)


@given(FRAMES)
def test_what_is_read_at_one_go_is_read_field_by_field_to_the_same(frame: str) -> None:
    assert read_request(frame) == read_fields(frame)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [*GOOD_FIELDS, *(f"params.{name}" for name in GOOD_PARAMS)])
def test_an_odd_value_is_read_at_one_go_as_field_by_field(name: str, odd: str) -> None:
    fields = {"type": '"generate"', "unique_request_id": '"1"', "messages": GOOD_FIELDS["messages"][0]}
    params = {"model_id": '"m"'}
    target = params if name.startswith("params.") else fields
    target[name.removeprefix("params.")] = odd
    if "params" not in fields:
        fields["params"] = "{" + ",".join(f'"{key}":{value}' for key, value in params.items()) + "}"
    frame = "{" + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}"
    assert read_request(frame) == read_fields(frame)
