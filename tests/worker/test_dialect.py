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


def test_raw_text_has_the_older_name_of_the_length() -> None:
    fields = Dialect(title="Acme").for_text().fields(PARAMS, NOTHING)
    assert fields["max_tokens"] == 7
    assert "max_completion_tokens" not in fields


def test_what_a_service_takes_and_does_nothing_with_is_not_sent_and_named() -> None:
    dialect = Dialect(title="Acme", samplers={"top_p": "top_p"}, without=frozenset(("temperature", "top_p")))
    sent = dialect.fields(PARAMS, NOTHING)
    assert not {"temperature", "top_p"} & set(sent)
    assert dialect.ignored(PARAMS, sent) == ("temperature", "top_p", "top_k")


def test_models_that_think_in_their_text_get_fields_of_their_own() -> None:
    dialect = Dialect(title="Acme", thinking_extra={"reasoning_format": "hidden"})
    assert "reasoning_format" not in dialect.fields(PARAMS, NOTHING)
    assert dialect.fields(PARAMS, NOTHING, thinks=True)["reasoning_format"] == "hidden"
    assert "reasoning_format" not in dialect.fields(PARAMS, frozenset({"reasoning_format"}), thinks=True)


def test_a_thinker_is_one_at_its_address_only_and_their_number_is_bounded() -> None:
    learnt = Learnt()
    learnt.add_thinker("https://a", "m")
    assert learnt.thinks("https://a", "m")
    assert not learnt.thinks("https://b", "m")
    for number in range(1024):
        learnt.add_thinker("https://a", f"m{number}")
    assert not learnt.thinks("https://a", "m")
    assert learnt.thinks("https://a", "m1023")
