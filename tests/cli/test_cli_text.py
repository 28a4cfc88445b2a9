"""What may be written to a terminal, and how amounts are shown."""

import pytest

from waifu_llm.cli.text import duration, encodable, escaped, one_line, printable, size, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain äöü 日本 🙂", "plain äöü 日本 🙂"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("over\rwritten\r\n", "overwritten\n"),
        ("\x9b31m c1 \x85 \x7f\x00", "31m c1  "),
    ],
)
def test_control_characters_cannot_reach_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_message_is_one_line() -> None:
    assert one_line("a\nb\t c\r\n\x1bd") == "a b c d"


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (10 * 1024, "10 KiB"),
        (3.5 * 1024**3, "3.5 GiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_bytes_are_shown_as_people_read_them(count: float | None, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.4, "0s"), (59, "59s"), (61, "1min 1s"), (3660, "1h 1min"), (90061, "1d 1h")],
)
def test_seconds_are_shown_as_people_read_them(seconds: float | None, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_table_has_columns_and_no_blanks_at_line_ends() -> None:
    assert table(("NAME", "X"), [("a", "1"), ("longer", "")]) == "NAME    X\na       1\nlonger"


def test_what_could_not_be_decoded_is_replaced_and_the_rest_stays() -> None:
    assert encodable("a\udcff日本🙂") == "a\ufffd日本🙂"


def test_json_has_no_control_character_unescaped() -> None:
    assert escaped('"a\x7f\x9bä\\u001b"') == '"a\\u007f\\u009bä\\u001b"'
