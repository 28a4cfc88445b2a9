"""No key leaves in a text, in whatever form."""

import base64
from urllib.parse import quote

import pytest

from waifu_worker.scrub import Scrubber

KEY = "k+y/with=odd&characters 0123456789"


@pytest.mark.parametrize(
    "form",
    [
        KEY,
        quote(KEY, safe=""),
        quote(KEY, safe="").replace("%20", "+"),
        base64.b64encode(KEY.encode()).decode(),
        base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("="),
        f"{KEY[:8]}...{KEY[-8:]}",
    ],
)
def test_a_known_key_is_taken_out_in_every_form(form: str) -> None:
    scrubber = Scrubber()
    scrubber.add(KEY)
    clean = scrubber.scrub(f"before {form} after")
    assert clean.startswith("before [redacted]")
    assert clean.endswith(" after")
    assert KEY[:8] not in clean
    assert KEY[-8:] not in clean


@pytest.mark.parametrize("text", ["sk-proj-abcdefgh12", "gsk_abcdefgh12", "Authorization: Bearer abcdefgh12"])
def test_what_looks_like_a_key_is_taken_out_without_being_known(text: str) -> None:
    assert "abcdefgh12" not in Scrubber().scrub(text)


@pytest.mark.parametrize("key", [None, "", "abc"])
def test_no_key_and_a_tiny_one_change_nothing(key: str | None) -> None:
    scrubber = Scrubber()
    scrubber.add(key)
    assert scrubber.scrub("abc or nothing") == "abc or nothing"


def test_a_short_key_is_known_as_a_whole_only() -> None:
    scrubber = Scrubber()
    scrubber.add("0123456789abcdef")
    assert scrubber.scrub("01234567 and 0123456789abcdef") == "01234567 and [redacted]"


def test_a_known_key_that_a_service_half_masked_goes_as_a_whole() -> None:
    scrubber = Scrubber()
    scrubber.add("sk-abcde" + "x" * 30 + "12345678")
    assert scrubber.scrub("wrong key: sk-abcde*****12345678.") == "wrong key: [redacted]"
