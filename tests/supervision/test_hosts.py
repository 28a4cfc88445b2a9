"""Short forms of addresses, as OLLAMA_HOST has them."""

import pytest

from waifu_llm.supervision.hosts import completed

DEFAULT = "http://127.0.0.1:11434"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        (":8080", "http://127.0.0.1:8080"),
        ("box", "http://box:11434"),
        ("box:8080", "http://box:8080"),
        ("box:", "http://box:11434"),
        ("box/ollama", "http://box:11434/ollama"),
        (" 10.0.0.9 ", "http://10.0.0.9:11434"),
        ("", "http://127.0.0.1:11434"),
        ("http://box", "http://box"),
        ("https://box/ollama", "https://box/ollama"),
        ("https://box:444", "https://box:444"),
        ("http://:8080", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("http://0.0.0.0:8080", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[::]:8080", "http://[::1]:8080"),
        ("::", "http://[::1]:11434"),
        ("http://[::]", "http://[::1]"),
        ("ftp://box", "ftp://box"),
    ],
)
def test_what_a_short_form_leaves_out_is_the_defaults(text: str, url: str) -> None:
    assert completed(text, DEFAULT) == url


def test_a_default_without_a_port_adds_none() -> None:
    assert completed("box", "https://api.example/v1") == "https://box"
    assert completed("", "host-without-scheme") == "://"


@pytest.mark.parametrize("text", ["[::1:80", "::1]:80"])
def test_half_a_pair_of_brackets_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="bracket"):
        completed(text, DEFAULT)
