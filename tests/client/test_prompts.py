"""What programs hold, as the protocol sends it; and the protocol's errors as exceptions."""

import pytest

import waifu_client
from waifu_client.errors import LLMError, error_of
from waifu_client.prompts import as_messages, as_params
from waifu_client.protocol import ErrorCode, GenerateStreamDone, Message


def test_a_text_is_one_user_message() -> None:
    assert as_messages("Hello") == [Message(role="user", content="Hello")]


def test_messages_may_be_dicts_and_structs_mixed() -> None:
    system = Message(role="system", content="Be brief.")
    turns: list[Message | dict[str, object]] = [system, {"role": "user", "content": "Hello", "name": "DEV"}]
    assert as_messages(turns) == [system, Message(role="user", content="Hello", name="DEV")]


@pytest.mark.parametrize("wrong", [{"role": "boss", "content": "x"}, {"role": "user"}, {"role": "user", "content": 1}])
def test_a_message_that_is_none_is_an_invalid_prompt(wrong: dict[str, object]) -> None:
    with pytest.raises(waifu_client.InvalidPrompt, match="message"):
        as_messages([wrong])


def test_parameters_left_out_have_the_protocols_values() -> None:
    params = as_params("m", {})
    assert (params.model_id, params.character_name, params.timeout_ms) == ("m", "AI", 60_000)


def test_parameters_are_taken_over_and_any_sequence_of_stops_will_do() -> None:
    params = as_params(None, {"stop_tokens": ("\n", 7), "timeout_ms": None, "seed": 3})
    assert (params.model_id, params.stop_tokens, params.timeout_ms, params.seed) == ("", ["\n", 7], None, 3)


def test_a_parameter_of_the_wrong_kind_is_an_invalid_prompt() -> None:
    with pytest.raises(waifu_client.InvalidPrompt, match="max_output_length"):
        as_params("m", {"max_output_length": 0})


def test_a_parameter_that_does_not_exist_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="max_tokens"):
        as_params("m", {"max_tokens": 5})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("code", [code for code in ErrorCode if code is not ErrorCode.SUCCESS])
def test_every_code_is_an_exception_of_its_own(code: ErrorCode) -> None:
    error = error_of(
        GenerateStreamDone(
            unique_request_id=1, is_error=True, error=code, message="why", reason="busy", retry_after_ms=7
        )
    )
    assert (error.code, error.message, error.reason, error.retry_after_ms) == (code, "why", "busy", 7)
    assert type(error) is not LLMError
    assert str(error) == "why"


def test_an_error_without_a_message_names_its_code() -> None:
    error = error_of(GenerateStreamDone(unique_request_id=1, is_error=True, error=ErrorCode.TIMEOUT))
    assert (str(error), error.reason, error.retry_after_ms) == ("the module answered TIMEOUT", None, None)


def test_the_package_offers_its_names_and_no_others() -> None:
    assert all(getattr(waifu_client, name) for name in waifu_client.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = waifu_client.nonsense
