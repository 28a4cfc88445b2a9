"""What docs/lollms.md says of events, options and fields is what the gateway has."""

import re
from pathlib import Path

import msgspec
import pytest
from waifu_lollms.payloads import FORMS
from waifu_lollms.personalities.loader import read_personality
from waifu_lollms.personalities.model import Personality
from waifu_lollms.state.model import State

from waifu_llm.catalog import read_manifest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "lollms.md").read_text("utf-8")
LIFE = {"connect", "disconnect"}


def rows(table: str) -> list[list[str]]:
    """The cells of a table, without its head."""
    (body,) = re.findall(rf"<!-- {table} -->\n(.*?)<!-- end of {table} -->", PAGE, re.DOTALL)
    lines = body.strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def named(cell: str) -> list[str]:
    return re.findall(r"`([a-z_]+)`", cell)


def shown(value: object) -> str:
    """A default as the tables have it."""
    match value:
        case None | () | []:
            return "none"
        case bool():
            return str(value).lower()
        case (first,):
            return str(first)
        case _:
            return str(value)


EVENTS = {named(cells[0])[0]: cells for cells in rows("events")}


def test_the_table_has_every_event_and_no_other() -> None:
    assert set(EVENTS) == set(FORMS) | LIFE
    assert len(rows("events")) == len(EVENTS)


@pytest.mark.parametrize("event", sorted(FORMS))
def test_a_refusal_is_one_of_the_replies_that_the_table_names(event: str) -> None:
    refused = FORMS[event].refuse("a reason", {})
    in_table = set(named(EVENTS[event][1])) | set(re.findall(r"`([a-z_]+) \{", EVENTS[event][2]))
    assert {name for name, _ in refused} <= in_table


@pytest.mark.parametrize("event", sorted(event for event, form in FORMS.items() if form.fields))
def test_the_fields_stand_in_the_order_in_which_arguments_are_taken(event: str) -> None:
    (fields,) = re.findall(r"`\{(.*?)\}`", EVENTS[event][0])
    assert tuple(fields.split(", ")) == FORMS[event].fields


def test_the_options_are_those_of_the_manifest_with_their_defaults() -> None:
    options = read_manifest(ROOT / "gateways" / "lollms").declared.options
    assert [named(cells[0])[0] for cells in rows("options")] == list(options)
    for name, default, _ in rows("options"):
        assert default.strip("`") == shown(options[name.strip("`")].default)


def test_the_keys_of_lollms_yaml_are_those_that_are_read_with_their_defaults() -> None:
    keys = [name for cells in rows("state") for name in named(cells[0])]
    defaults = msgspec.structs.asdict(State())
    assert keys == list(defaults)
    for cell, default in rows("state"):
        for name in named(cell):
            assert re.split("[;,]", default)[0].strip("`") == shown(defaults[name]), name


def test_every_field_of_a_personality_stands_in_the_table_under_the_name_that_is_read() -> None:
    names = [name for cells in rows("personality fields") for name in named(cells[0])]
    plain = Personality(key="", folder="f", language="l", category="c", name="f")
    # Each as a text that is wrong or new for its field: what is read is another personality, or refused.
    ignored = {"category", "language"}
    for name in set(names) - ignored:
        try:
            read = read_personality(f"{name}: 7".encode(), language="l", category="c", folder="f")
        except ValueError as error:
            assert name in str(error)
        else:
            assert msgspec.structs.replace(read, key="") != plain, name


def test_the_example_is_a_personality() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    read = read_personality(example.encode(), language="english", category="companions", folder="lumi")
    assert (read.name, read.anti_prompts, read.sampling.temperature) == ("Lumi", ("Human:",), 0.8)
    assert "{{date_time}}" in read.conditioning
