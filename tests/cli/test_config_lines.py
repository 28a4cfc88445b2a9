"""On which line of a TOML file a key stands."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waifu_llm.config.lines import line_of

FILE = '''\
# a comment

[server]
port = 7562   # the port
allow_origin = [
  "https://one.example",

  "https://two.example",
]
host = """
[limits]
running = 3
"""

[provider.openai]
base_url = "https://example.org"
"quoted key" = 1
dotted.key = 2
[[lists]]
name = "first"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("server",), 3),
        (("server", "port"), 4),
        (("server", "allow_origin"), 5),
        (("server", "host"), 10),
        (("provider",), 15),
        (("provider", "openai"), 15),
        (("provider", "openai", "base_url"), 16),
        (("provider", "openai", "quoted key"), 17),
        (("provider", "openai", "dotted", "key"), 18),
        (("lists",), 19),
    ],
)
def test_a_key_is_found_where_its_statement_begins(path: tuple[str, ...], line: int) -> None:
    assert line_of(FILE, path) == line


@pytest.mark.parametrize("path", [("limits",), ("limits", "running"), ("server", "port", "deeper"), ("nothing",)])
def test_what_is_not_there_or_stands_in_a_text_only_has_no_line(path: tuple[str, ...]) -> None:
    assert line_of(FILE, path) is None


def test_line_ends_of_other_systems_change_nothing() -> None:
    assert line_of(FILE.replace("\n", "\r\n"), ("provider", "openai", "base_url")) == 16


def test_a_file_of_one_line_without_an_end_is_enough() -> None:
    assert line_of("port = 1", ("port",)) == 1


@given(st.text(alphabet="[]\"=#ab.\n '1{},"), st.sampled_from([("a",), ("b", "a"), ("a", "b")]))
def test_any_valid_file_gives_a_line_for_exactly_the_keys_it_has(text: str, path: tuple[str, ...]) -> None:
    try:
        table: object = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    for key in path:
        table = table.get(key) if isinstance(table, dict) else None
    line = line_of(text, path)
    assert (line is not None) == (table is not None)
    assert line is None or 1 <= line <= text.count("\n") + 1
