"""What tells one OpenAI-style service from another, as a table row; and what is learnt of a model."""

from waifu_worker.chat_dialect import Dialect, Learnt
from waifu_worker.wire import ChatMessage, Params

PARAMS = Params(model_id="m", temperature=5.0, max_output_length=7, stops=("", "a", "b", "c"), top_p=0.5, top_k=3)
NOTHING: frozenset[str] = frozenset()


def test_a_dialect_decides_the_names_the_limits_and_the_extras() -> None:
    dialect = Dialect(
        title="Acme",
        length_fields=("max_tokens",),
        stop_limit=2,
        temperature=(0.5, 1.5),
        samplers={"top_p": "topP"},
        extra={"thinking": {"type": "disabled"}},
        usage_option=False,
    )
    assert dialect.fields(PARAMS, NOTHING) == {
        "temperature": 1.5,
        "stop": ["a", "b"],
        "topP": 0.5,
        "thinking": {"type": "disabled"},
        "max_tokens": 7,
    }


def test_a_service_may_take_any_number_of_stops_or_none() -> None:
    assert Dialect(title="Acme", stop_limit=None).fields(PARAMS, NOTHING)["stop"] == ["a", "b", "c"]
    assert "stop" not in Dialect(title="Acme", stop_limit=0).fields(PARAMS, NOTHING)


def test_a_refused_length_field_makes_way_for_the_next() -> None:
    dialect = Dialect(title="Acme", length_fields=("new", "old"))
    assert dialect.fields(PARAMS, NOTHING)["new"] == 7
    assert dialect.fields(PARAMS, frozenset({"new"}))["old"] == 7
    assert not {"new", "old"} & set(dialect.fields(PARAMS, frozenset({"new", "old"})))


def test_what_was_left_out_is_named_as_the_client_knows_it() -> None:
    dialect = Dialect(title="Acme", samplers={"top_p": "topP"})
    sent = dialect.fields(PARAMS, NOTHING)
    assert dialect.ignored(PARAMS, sent) == ("top_k",)
    assert dialect.ignored(PARAMS, {}) == ("temperature", "max_output_length", "top_p", "top_k")


def test_where_there_is_no_field_for_names_they_stand_before_the_content() -> None:
    messages = [ChatMessage(role="user", content="Hi", name="dev"), ChatMessage(role="user", content="Ho")]
    assert Dialect(title="Acme").messages(messages) == [
        {"role": "user", "content": "dev: Hi"},
        {"role": "user", "content": "Ho"},
    ]


def test_what_a_model_refused_is_known_of_that_model_at_that_address_only() -> None:
    learnt = Learnt()
    learnt.add_refused("https://a", "m", "stop")
    learnt.add_refused("https://a", "m", "seed")
    assert learnt.refused("https://a", "m") == {"stop", "seed"}
    assert learnt.refused("https://a", "n") == learnt.refused("https://b", "m") == NOTHING


def test_what_is_remembered_of_models_is_bounded() -> None:
    learnt = Learnt()
    for number in range(1025):
        learnt.add_refused("https://a", f"m{number}", "stop")
    assert learnt.refused("https://a", "m1024") == {"stop"}
    assert learnt.refused("https://a", "m0") == NOTHING
