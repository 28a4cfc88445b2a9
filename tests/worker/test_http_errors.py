"""The one table from a failed answer to an outward code; `test_openai.py` has its rows as a service sends them."""

import json

import pytest

from waifu_worker.http_errors import (
    ErrorDetails,
    Refusal,
    details_of,
    failure,
    read_details,
    read_plain,
    refused_field,
    refuses_only_value,
    retry_after_ms,
)
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code

UPSTREAM = Upstream("Acme", "https://api.acme.example/v1")


@pytest.mark.parametrize(
    ("body", "details"),
    [
        (
            {"error": {"message": "m", "type": "t", "param": "p", "code": "c"}},
            ErrorDetails(message="m", code="c", type="t", param="p"),
        ),
        ({"error": {"message": "m", "type": None, "param": None, "code": None}}, ErrorDetails(message="m")),
        ({"error": "m"}, ErrorDetails(message="m")),
        ({"message": "m", "statusCode": 429}, ErrorDetails(message="m", code="429")),
        ({"object": "error", "message": "m", "code": 400}, ErrorDetails(message="m", code="400")),
        ({"detail": "m"}, ErrorDetails(message="m")),
        ({"detail": [{"msg": "m", "loc": ["body", "seed"]}]}, ErrorDetails(message="m", param="seed")),
        ({"detail": [{"msg": "m", "loc": []}]}, ErrorDetails(message="m")),
        ({"detail": []}, ErrorDetails()),
        ([{"error": {"message": "m"}}], ErrorDetails(message="m")),
        ({"error": {"message": "m", "metadata": {"reasons": []}}}, ErrorDetails(message="m", moderated=True)),
        ({"error": {"message": {"a": 1}, "code": True, "param": ["x"]}}, ErrorDetails()),
        ("m", ErrorDetails(message="m")),
        ([], ErrorDetails()),
        (7, ErrorDetails()),
    ],
)
def test_every_form_of_an_error_body_is_read(body: object, details: ErrorDetails) -> None:
    assert details_of(body) == details
    assert read_details(json.dumps(body).encode()) == details


@pytest.mark.parametrize("body", [b"", b"<html>", b"\xff", b"[" * 5000])
def test_a_body_that_is_no_json_has_no_details(body: bytes) -> None:
    assert read_details(body) is None


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b" 404 page not found\n", "404 page not found"),
        (b"", ""),
        (b"\n<!DOCTYPE html>", ""),
        (b"x" * 9000, "x" * 2000),
    ],
)
def test_a_body_of_plain_text_is_its_own_message_and_a_web_page_is_none(body: bytes, text: str) -> None:
    assert read_plain(body) == text
    assert Refusal(500, None, plain=text).said == ErrorDetails(message=text)


@pytest.mark.parametrize(
    ("status", "plain", "code"),
    [
        (404, "404 page not found", Code.UNEXPECTED),
        (404, "model 'm' not found", Code.INVALID_MODEL),
        (403, "error code: 1010", Code.UNEXPECTED),
        (422, "messages[0].role: unknown variant `wizard`", Code.INVALID_PROMPT),
        (400, "This model's maximum context length is 5", Code.INVALID_PROMPT),
        (400, "Invalid API key", Code.AUTHORIZATION),
        (500, "Internal Server Error", Code.UNEXPECTED),
    ],
)
def test_plain_text_is_understood_where_it_can_be(status: int, plain: str, code: Code) -> None:
    error = failure(UPSTREAM, Refusal(status, None, model="m", plain=plain))
    assert error.code is code


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Incorrect API key provided: gs***tF.", Code.AUTHORIZATION),
        (400, "API key not valid. Please pass a valid API key.", Code.AUTHORIZATION),
        (498, "invalid api token", Code.AUTHORIZATION),
        (498, "Flex tier capacity exceeded", Code.UNEXPECTED),
        (400, "m is not a valid model ID", Code.INVALID_MODEL),
        (400, "Invalid model: m", Code.INVALID_MODEL),
        (404, "No endpoints found for m.", Code.INVALID_MODEL),
        (400, "The model `m` does not support chat completions", Code.INVALID_MODEL),
        (400, "Content Exists Risk", Code.INVALID_PROMPT),
    ],
)
def test_what_services_say_in_words_alone_is_understood(status: int, message: str, code: Code) -> None:
    assert failure(UPSTREAM, Refusal(status, ErrorDetails(message), model="m")).code is code


@pytest.mark.parametrize(
    ("headers", "wait_ms"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2000),
        ({"retry-after": "0.25"}, 250),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "9e9"}, 24 * 3600 * 1000),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, 20_000),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1500),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9000),
    ],
)
def test_the_time_to_wait_is_read_in_all_its_forms(headers: dict[str, str], wait_ms: int | None) -> None:
    assert retry_after_ms(headers, now=40.0) == wait_ms


@pytest.mark.parametrize(
    ("status", "details", "code", "reason"),
    [
        # Order: the code before the status.
        (429, ErrorDetails(code="insufficient_quota"), Code.AUTHORIZATION, "quota"),
        (429, ErrorDetails(type="insufficient_quota", code="429"), Code.AUTHORIZATION, "quota"),
        (400, ErrorDetails(code="invalid_api_key"), Code.AUTHORIZATION, None),
        (401, None, Code.AUTHORIZATION, None),
        (402, ErrorDetails("Insufficient Balance"), Code.AUTHORIZATION, "quota"),
        (403, ErrorDetails("no"), Code.AUTHORIZATION, None),
        (403, None, Code.UNEXPECTED, "provider_down"),
        # Models, by each service's own words.
        (400, ErrorDetails("Model Not Exist", code="invalid_request_error"), Code.INVALID_MODEL, None),
        (400, ErrorDetails("model 'x' not allowed for current user tier 'S'"), Code.INVALID_MODEL, None),
        (400, ErrorDetails("Model 'k' not available via OpenAI-compatible API."), Code.INVALID_MODEL, None),
        (400, ErrorDetails("gone", code="model_decommissioned"), Code.INVALID_MODEL, None),
        (404, ErrorDetails("model 'x' not found"), Code.INVALID_MODEL, None),
        (404, ErrorDetails("The model `x` does not exist"), Code.INVALID_MODEL, None),
        (404, ErrorDetails("Not Found"), Code.UNEXPECTED, None),
        (404, None, Code.UNEXPECTED, None),
        (405, None, Code.UNEXPECTED, None),
        (503, ErrorDetails("model is loading", code="model_loading"), Code.UNEXPECTED, "provider_down"),
        # Prompts.
        (400, ErrorDetails("the prompt is too long: 9 > 8"), Code.INVALID_PROMPT, None),
        (
            400,
            ErrorDetails("over the limit", type="exceed_context_size_error"),
            Code.INVALID_PROMPT,
            None,
        ),
        (413, None, Code.INVALID_PROMPT, None),
        (422, ErrorDetails("messages: unknown variant"), Code.INVALID_PROMPT, None),
        (400, ErrorDetails(param="messages[1].name", code="invalid_value"), Code.INVALID_PROMPT, None),
        (400, ErrorDetails(code="content_policy_violation"), Code.INVALID_PROMPT, "refused"),
        (403, ErrorDetails(moderated=True), Code.INVALID_PROMPT, "refused"),
        # Trouble.
        (429, ErrorDetails("Concurrent generation is locked", code="429"), Code.UNEXPECTED, "rate_limited"),
        (499, None, Code.UNEXPECTED, "provider_down"),
        (500, None, Code.UNEXPECTED, "provider_down"),
        (529, ErrorDetails(type="overloaded_error"), Code.UNEXPECTED, "provider_down"),
        (408, None, Code.TIMEOUT, "provider_timeout"),
        (524, None, Code.TIMEOUT, "provider_timeout"),
        (302, None, Code.UNEXPECTED, None),
        (200, None, Code.UNEXPECTED, None),
        (418, ErrorDetails("tea"), Code.UNEXPECTED, None),
        # Inside a stream there is no status, but sometimes one in the event.
        (None, ErrorDetails("boom"), Code.UNEXPECTED, None),
        (None, ErrorDetails(type="server_error"), Code.UNEXPECTED, "provider_down"),
        (None, ErrorDetails(code="rate_limit_exceeded"), Code.UNEXPECTED, "rate_limited"),
        (None, ErrorDetails(code="model_not_found"), Code.INVALID_MODEL, None),
        (None, ErrorDetails(code="402"), Code.AUTHORIZATION, "quota"),
        (None, ErrorDetails(code="502"), Code.UNEXPECTED, "provider_down"),
        (None, ErrorDetails(code="7"), Code.UNEXPECTED, None),
    ],
)
def test_a_failure_has_its_code(
    status: int | None, details: ErrorDetails | None, code: Code, reason: str | None
) -> None:
    error = failure(UPSTREAM, Refusal(status, details, model="m"))
    assert (error.code, error.reason) == (code, reason)


def test_a_message_says_who_said_what_and_what_to_do() -> None:
    refusal = Refusal(429, ErrorDetails("Slow {down}.", code="slow_down"), retry_after_ms=7)
    error = failure(UPSTREAM, refusal)
    assert error.message == "Acme gets too many requests (HTTP 429): Slow {down}. Wait a little, then try again."
    assert (error.retry_after_ms, error.http_status, error.provider_code) == (7, 429, "slow_down")


def test_a_redirect_says_where_it_leads() -> None:
    error = failure(UPSTREAM, Refusal(308, None, location="https://acme.example/v2"))
    assert "https://acme.example/v2" in error.message


SENT = ("temperature", "stop", "seed", "max_tokens", "stream_options")


@pytest.mark.parametrize(
    ("status", "details", "field"),
    [
        (400, ErrorDetails("x", param="temperature"), "temperature"),
        (422, ErrorDetails("x", param="stream_options.include_usage"), "stream_options"),
        (400, ErrorDetails("x", param="stop[4]"), "stop"),
        (400, ErrorDetails("'temperature' is bad", param="top_k"), None),
        (400, ErrorDetails("Unsupported: 'max_tokens'. Use 'max_completion_tokens' instead."), "max_tokens"),
        (400, ErrorDetails("property `stop` is unsupported, see temperature"), "stop"),
        (400, ErrorDetails("max_tokens is not allowed"), "max_tokens"),
        (400, ErrorDetails("please stop"), None),
        (400, ErrorDetails("Model m does not support parameter stop."), "stop"),
        (400, ErrorDetails("Argument not supported on this model: stop"), "stop"),
        (400, ErrorDetails("The model `seed` does not exist"), None),
        (400, ErrorDetails("temperature is over the context length"), None),
        (400, None, None),
        (500, ErrorDetails("x", param="temperature"), None),
        (429, ErrorDetails("max_tokens over the rate"), None),
    ],
)
def test_a_complaint_about_a_parameter_names_it(status: int, details: ErrorDetails | None, field: str | None) -> None:
    assert refused_field(Refusal(status, details), SENT) == field


@pytest.mark.parametrize(
    ("code", "only"),
    [
        ("invalid_value", True),
        ("integer_above_max_value", True),
        ("array_above_max_length", True),
        ("unsupported_value", False),
        ("unsupported_parameter", False),
        ("", False),
    ],
)
def test_a_refused_value_is_told_from_a_refused_parameter(code: str, only: bool) -> None:
    assert refuses_only_value(Refusal(400, ErrorDetails(code=code))) is only


@pytest.mark.parametrize(
    ("message", "only"),
    [
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", True),
        ("Input should be less than or equal to 2", True),
        ("max_tokens is too large", True),
        ("Unsupported parameter: max_tokens", False),
    ],
)
def test_a_refused_value_is_told_by_words_where_there_is_no_code(message: str, only: bool) -> None:
    assert refuses_only_value(Refusal(400, ErrorDetails(message))) is only
