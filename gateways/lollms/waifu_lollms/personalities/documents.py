"""YAML as texts, lists and mappings: pure, bounded, and nothing in a file decides what is made of it.

Only ruamel's parser is used, none of its constructors. The reader of a field knows which type it wants, so
`version: 2.10` keeps its zero and `name: No` stays a name, and no value makes a constructor fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionStartEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamStartEvent,
)

MOST_NODES: Final = 20_000
DEEPEST: Final = 32
_OPENING: Final = (StreamStartEvent, DocumentStartEvent)
_STANDARD: Final = "tag:yaml.org,2002:"
_TAGS: Final = frozenset({"!", *(_STANDARD + name for name in "null bool int float str seq map timestamp".split())})


class DocumentError(ValueError):
    """The text is no YAML document that we read; its text is a sentence."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A single value as written; `plain` where it has no quotes and is no block, so that it may be a number."""

    text: str
    plain: bool
    line: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A list."""

    items: list[Node]
    line: int


@dataclass(frozen=True, slots=True)
class Table:
    """A mapping; of equal keys the last counts, as with the loader that old files were written for."""

    entries: dict[str, Node]
    line: int


Node: TypeAlias = Scalar | Listing | Table


def read_document(text: str) -> Table:
    """The mapping that `text` holds; an empty text is an empty one.

    Aliases are followed and counted as what they stand for: more than `MOST_NODES` values altogether, or more than
    `DEEPEST` levels, are refused before they cost anything.

    Raises: DocumentError.
    """
    yaml = _Yaml(typ="safe", pure=True)
    yaml.version = (1, 1)
    try:
        return _Builder(yaml.parse(text)).document()
    except DocumentError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(_at(mark.line if mark else 0, error.problem or error.context or "not readable")) from error
    except Exception as error:
        # ruamel's scanner lets errors of several kinds out (ValueError, IndexError, ...), all for malformed texts.
        raise DocumentError(f"not readable as YAML ({' '.join(str(error).split())[:200]})") from error


class _Yaml(YAML):
    """Without plug-ins: looking for them lists a folder of the package anew for every text."""

    def official_plug_ins(self) -> list[str]:
        return []


def _at(line: int, problem: str) -> str:
    return f"line {line + 1}: {problem}"


def _whole(text: str, line: int) -> str:
    """Escapes may spell a character as two halves, as in JSON; half a character is no text."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise DocumentError(_at(line, "an escape spells half a character")) from error


class _Builder:
    """Makes the tree from the parser's events; refuses before it grows."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._size = 0

    def document(self) -> Table:
        event = next(self._events)
        while isinstance(event, _OPENING):
            event = next(self._events)
        if not isinstance(event, NodeEvent):
            return Table({}, 0)
        found = self._node(event, 0)
        while isinstance(event := next(self._events), DocumentEndEvent):
            pass
        if isinstance(event, DocumentStartEvent):
            raise DocumentError(_at(event.start_mark.line, "a second document begins; one is expected"))
        if isinstance(found, Scalar) and found.plain and found.text in ("", "~", "null"):
            return Table({}, 0)
        if not isinstance(found, Table):
            raise DocumentError(_at(found.line, "fields are expected, like `name: value`"))
        return found

    def _node(self, event: Event, depth: int) -> Node:
        before, line = self._size, event.start_mark.line
        if depth > DEEPEST:
            raise DocumentError(_at(line, f"nested more than {DEEPEST} levels deep"))
        if isinstance(event, AliasEvent):
            return self._alias(event.anchor, line)
        self._count(1, line)
        assert isinstance(event, ScalarEvent | CollectionStartEvent)
        tag = event.tag
        if tag is not None and tag not in _TAGS:
            raise DocumentError(_at(line, f"the tag {tag.removeprefix(_STANDARD)[:80]!r} is not allowed"))
        found: Node
        if isinstance(event, ScalarEvent):
            found = Scalar(_whole(event.value, line), not event.style and tag is None, line)
        elif isinstance(event, SequenceStartEvent):
            found = Listing(list(self._items(SequenceEndEvent, depth)), line)
        else:
            found = Table(self._entries(depth), line)
        if event.anchor is not None:
            self._anchors[event.anchor] = (found, self._size - before)
        return found

    def _alias(self, anchor: str, line: int) -> Node:
        # An anchor is known once its value is whole: a value that holds itself is refused here too.
        if anchor not in self._anchors:
            raise DocumentError(_at(line, f"*{anchor[:80]} stands for nothing that comes before it"))
        found, size = self._anchors[anchor]
        self._count(size, line)
        return found

    def _items(self, end: type[Event], depth: int) -> Iterator[Node]:
        while not isinstance(event := next(self._events), end):
            yield self._node(event, depth + 1)

    def _entries(self, depth: int) -> dict[str, Node]:
        nodes = self._items(MappingEndEvent, depth)
        # Lists and mappings may be keys in YAML; no field is named so.
        return {key.text: value for key, value in zip(nodes, nodes, strict=True) if isinstance(key, Scalar)}

    def _count(self, nodes: int, line: int) -> None:
        self._size += nodes
        if self._size > MOST_NODES:
            raise DocumentError(_at(line, f"more than {MOST_NODES:,} values, counting what its aliases stand for"))
