"""What of a service may be told, and what an address, a key and a header may be."""

import pytest

from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream, clean_base_url, clean_key, header_value
from waifu_worker.wire import Code

KEY = "abcdefgh-the-middle-of-a-key-stuvwxyz"


@pytest.mark.parametrize(
    ("given", "cleaned"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1///", "https://api.openai.com/v1"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080/", "http://[::1]:8080"),
    ],
)
def test_a_base_url_loses_its_last_slash(given: str, cleaned: str) -> None:
    assert clean_base_url(given) == cleaned


@pytest.mark.parametrize(
    "given",
    [
        None,
        7,
        "",
        "host",
        "ftp://host",
        "http://",
        "http://h:0",
        "http://h:x",
        "http://[",
        "http://h?a",
        "http://h#a",
        "http://u@h",
    ],
)
def test_what_is_no_address_is_refused(given: object) -> None:
    with pytest.raises(ProviderError, match="base_url") as caught:
        clean_base_url(given)
    assert caught.value.code is Code.UNEXPECTED


def test_a_key_is_stripped_and_an_empty_one_is_none() -> None:
    assert clean_key(" k \n", "X") == "k"
    assert clean_key("", "X") is None
    assert clean_key(None, "X") is None
    with pytest.raises(ProviderError, match="copy it again") as caught:
        clean_key("a b", "X")
    assert caught.value.code is Code.AUTHORIZATION


def test_a_header_holds_plain_text_only() -> None:
    assert header_value(" a ", "o") == "a"
    assert header_value(None, "o") is None
    assert header_value("", "o") is None
    for bad in (7, "é", "a\nb"):
        with pytest.raises(ProviderError, match="option o "):
            header_value(bad, "o")


@pytest.mark.parametrize(
    "said",
    [
        f"no {KEY} here",
        f"no {KEY[:8]}****{KEY[-8:]} here",
        f"no {KEY[:4]}********{KEY[-4:]} here",
        f"no {KEY[:8]} here",
        "no sk-0123456789 here",
    ],
)
def test_what_a_service_says_is_quoted_without_any_key(said: str) -> None:
    assert Upstream("X", "http://h:1/v1", KEY).quote(said) == "no [redacted] here"


def test_a_quote_is_one_short_line() -> None:
    upstream = Upstream("X", "http://h:1/v1")
    assert upstream.host == "h:1"
    assert upstream.quote(" a\n\t b ") == "a b"
    assert len(upstream.quote("x" * 1000)) == 160
    assert upstream.quote("x" * 1000).endswith("…")
