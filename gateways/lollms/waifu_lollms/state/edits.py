"""Which characters of a YAML text change with one of its values. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_BREAK: Final = re.compile(r"\r\n|\n|\r")
_COLON: Final = re.compile(r"\s*:")
_BLOCK_STYLES: Final = ("|", ">")
# What no YAML, old or new, in a list or not, takes for anything but a text.
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(?:[/:][A-Za-z0-9_.-]+)*")
_WORDS: Final = frozenset("true false yes no on off y n null none".split())
# JSON leaves them as they are, and YAML would read a line end or refuse them.
_ESCAPED: Final = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class Unchangeable(Exception):
    """The value is written so that it cannot be replaced without touching what belongs to the user."""


class Edit(NamedTuple):
    """The characters from `start` up to `end` become `text`."""

    start: int
    end: int
    text: str


def applied(text: str, edits: Iterable[Edit]) -> str:
    """The text after edits that do not overlap."""
    for edit in sorted(edits, reverse=True):
        text = text[: edit.start] + edit.text + text[edit.end :]
    return text


def added(text: str, root: MappingNode | None, values: Mapping[str, object]) -> str:
    """What to add at the end of the text: lines for new keys, written as those that are there."""
    line_end = _line_end(text)
    indent = " " * (root.start_mark.column if root else 0)
    lines = "".join(f"{indent}{name}: {_written(value, '')}{line_end}" for name, value in values.items())
    return lines if not text or text.endswith(("\n", "\r")) else line_end + lines


def replaced(text: str, key: Node, node: Node, value: object) -> Edit:
    """Another value for a key. Raises: Unchangeable."""
    start, end = node.start_mark.index, node.end_mark.index
    if start < key.end_mark.index:  # an alias: its node is the one that has the anchor, elsewhere
        raise Unchangeable
    colon = _COLON.match(text, key.end_mark.index)
    after = colon.end() if colon else start
    if isinstance(node, SequenceNode):
        return _replaced_list(text, node, after, value)
    if not isinstance(node, ScalarNode) or node.style in _BLOCK_STYLES:
        raise Unchangeable
    if start == end:  # nothing stands there, and the mark is somewhere behind
        return Edit(after, after, " " + _written(value, ""))
    return Edit(start, end, _written(value, node.style or ""))


def _replaced_list(text: str, node: SequenceNode, after: int, value: object) -> Edit:
    items: Sequence[ScalarNode] = node.value
    known = tuple(item.value for item in items)
    if items and isinstance(value, tuple) and value[: len(known)] == known:
        return _longer(text, node, value[len(known) :])
    end = node.end_mark.index if node.flow_style or not items else items[-1].end_mark.index
    begins = [after, *(item.end_mark.index for item in items)]
    ends = [*(item.start_mark.index for item in items), end]
    if any("#" in text[begin:stop] for begin, stop in zip(begins, ends, strict=True)):
        raise Unchangeable
    return Edit(after, end, " " + _written(value, '"'))


def _longer(text: str, node: SequenceNode, more: Sequence[str]) -> Edit:
    last: ScalarNode = node.value[-1]
    end = last.end_mark.index
    written = [_written(item, last.style or "") for item in more]
    if node.flow_style:
        return Edit(end, end, "".join(f", {item}" for item in written))
    line = _BREAK.search(text, end)
    end = line.start() if line else len(text)
    lead = _line_end(text) + " " * int(node.start_mark.column) + "- "
    return Edit(end, end, "".join(lead + item for item in written))


def _line_end(text: str) -> str:
    found = _BREAK.search(text)
    return found[0] if found else "\n"


def _written(value: object, style: str) -> str:
    match value:
        case None:
            return "null"
        case str():
            return _quoted(value, style)
        case tuple():
            return f"[{', '.join(_quoted(item, style) for item in value)}]"
        case _:
            return json.dumps(value)


def _quoted(text: str, style: str) -> str:
    """In the quotes that stood there, where they will do."""
    if style == "'" and text.isprintable():
        doubled = text.replace("'", "''")
        return f"'{doubled}'"
    if style == "" and _PLAIN.fullmatch(text) and text.lower() not in _WORDS:
        return text
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
