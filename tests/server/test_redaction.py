"""Keys never leave: by value in every form they take, and by their looks."""

import base64
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_llm.redaction import MASK, Redactor

KEY = "k3y+with/odd=chars&more-of-it"


@pytest.fixture
def redactor() -> Redactor:
    redactor = Redactor()
    redactor.add(KEY)
    return redactor


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote_plus(KEY),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        KEY[:8] + "***",
        "..." + KEY[-8:],
    ],
)
def test_a_known_key_is_taken_out_in_every_form(redactor: Redactor, form: str) -> None:
    scrubbed = redactor.scrub(f"before {form} after")
    assert scrubbed.startswith(f"before {MASK}" if form[0] != "." else "before ...")
    assert scrubbed.endswith("after")
    assert KEY[:8] not in scrubbed
    assert KEY[-8:] not in scrubbed


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-abcdefgh12345678",
        "sk-proj-****************abcd",
        "gsk_abcdefgh12345678",
        "pst-abcdefgh12345678",
        "hf_abcdefgh12345678",
        "Authorization: Bearer abcdefghijkl",
        "bearer abc.def-ghi_jkl=",
    ],
)
def test_what_looks_like_a_key_is_taken_out_though_nobody_knows_it(text: str) -> None:
    scrubbed = Redactor().scrub(text)
    assert MASK in scrubbed
    assert "abcdefgh" not in scrubbed


@pytest.mark.parametrize("text", ["", "the bearer came", "ask-me about this", "model gpt-4o is unknown", "hf_local"])
def test_ordinary_text_stays_as_it_is(redactor: Redactor, text: str) -> None:
    assert redactor.scrub(text) == text


@pytest.mark.parametrize("secret", [None, "", "abc"])
def test_what_is_too_short_to_be_a_secret_is_not_looked_for(secret: str | None) -> None:
    redactor = Redactor()
    redactor.add(secret)
    assert redactor.scrub("abc abc") == "abc abc"


def test_a_secret_that_holds_another_goes_as_a_whole() -> None:
    redactor = Redactor()
    redactor.add("secret")
    redactor.add("secret-and-more")
    redactor.add("secret-and-more")
    assert redactor.scrub("x secret-and-more y") == f"x {MASK} y"


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FFF), min_size=4, max_size=60), st.text())
def test_a_key_is_gone_whatever_it_is_made_of(key: str, around: str) -> None:
    redactor = Redactor()
    redactor.add(key)
    assert key not in redactor.scrub(f"{around}{key}{around}").replace(MASK, "\x00")


def test_a_known_key_that_a_service_half_masked_goes_as_a_whole() -> None:
    redactor = Redactor()
    redactor.add("sk-abcde" + "x" * 30 + "12345678")
    assert redactor.scrub("wrong key: sk-abcde*****12345678.") == "wrong key: [redacted]"


def test_many_keys_need_no_pattern_that_everybody_waits_for(
    redactor: Redactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_again(*_: object) -> None:
        raise AssertionError("a pattern grows with the keys")

    monkeypatch.setattr("waifu_llm.redaction.re.compile", compile_again)
    keys = [f"key-of-client-{number:05}-with-two-ends" for number in range(500)]
    for key in keys:
        redactor.add(key)
    scrubbed = redactor.scrub(" ".join(keys))
    assert scrubbed == " ".join([MASK] * len(keys))
