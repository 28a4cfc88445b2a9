"""The text of lollms.yaml: read with ruamel.yaml, changed only where a value changes. Pure.

A dump of what was read would keep comments, but not spaces, `True`, `~`, line ends and the like. So a change replaces
the characters of one value and leaves all others alone; the result is read again before anybody sees it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from waifu_lollms.state.edits import Edit, Unchangeable, added, applied, replaced
from waifu_lollms.state.fields import value_of
from waifu_lollms.state.model import State, StateError

_BOM: Final = "\ufeff"


@dataclass(frozen=True, slots=True)
class Document:
    """One version of the file. `entries`: key and value as they stand in the text, of the fields of `State` only."""

    name: str
    bom: str
    text: str
    root: MappingNode | None
    entries: Mapping[str, tuple[Node, Node]]
    state: State

    @classmethod
    def of(cls, content: bytes, name: str) -> "Document":
        """Read the file's content. Raises: StateError; `name` is what its sentence calls the file."""
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise StateError(f"{name}, line {line}: this is not UTF-8") from None
        bom, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False
        root = _root(yaml, text, name)
        entries = _entries(root, name)
        return cls(name, bom, text, root, entries, _state(entries, yaml.constructor, name))

    @property
    def content(self) -> bytes:
        """What the file has in it."""
        return (self.bom + self.text).encode()

    def changed(self, changes: Mapping[str, object]) -> "Document":
        """The same with other values for some fields of `State`. Raises: StateError where it cannot be changed."""
        wanted = msgspec.structs.replace(self.state, **changes)
        edits: list[Edit] = []
        missing: dict[str, object] = {}
        for name, value in changes.items():
            if name not in self.entries:
                missing[name] = value
            elif value != getattr(self.state, name):
                edits.append(self._edit(name, value))
        text = applied(self.text, edits)
        if missing:
            text += added(text, self.root, missing)
        return self._checked(self.bom + text, wanted)

    def _edit(self, name: str, value: object) -> Edit:
        key, node = self.entries[name]
        try:
            return replaced(self.text, key, node, value)
        except Unchangeable:
            line = node.start_mark.line + 1
            raise StateError(
                f"{self.name}, line {line}: {name} cannot be changed as it is written; write it on one line"
            ) from None

    def _checked(self, text: str, wanted: State) -> "Document":
        with suppress(StateError):
            document = Document.of(text.encode(), self.name)
            if document.state == wanted:
                return document
        raise StateError(f"{self.name} cannot be changed as it is written; write each field on a line of its own")


def _root(yaml: YAML, text: str, name: str) -> MappingNode | None:
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise StateError(f"{name}, line {line}: {error.problem or error.context}") from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StateError(f"{name}, line {line}: a character that YAML does not allow") from None
    except RecursionError:
        raise StateError(f"{name}, line 1: it is nested too deeply") from None
    except Exception as error:  # AssertionError, OverflowError and more, for directives and escapes that are none
        raise StateError(f"{name}, line 1: this is not YAML") from error
    match root:
        case MappingNode():
            return root
        case None | ScalarNode(value=""):
            return None
        case _:
            raise StateError(f"{name}, line {root.start_mark.line + 1}: it must consist of lines such as `top_k: 50`")


def _entries(root: MappingNode | None, name: str) -> dict[str, tuple[Node, Node]]:
    entries: dict[str, tuple[Node, Node]] = {}
    for key, value in root.value if root else ():
        if not isinstance(key, ScalarNode) or key.value not in State.__struct_fields__:
            continue
        if key.value in entries:
            raise StateError(f"{name}, line {key.start_mark.line + 1}: {key.value} stands there twice")
        entries[key.value] = (key, value)
    return entries


def _state(entries: Mapping[str, tuple[Node, Node]], constructor: SafeConstructor, name: str) -> State:
    values: dict[str, object] = {}
    for field, (key, value) in entries.items():
        try:
            values[field] = value_of(field, value, constructor)
        except ValueError as error:
            raise StateError(f"{name}, line {key.start_mark.line + 1}: {field} {error}") from None
    return msgspec.structs.replace(State(), **values)
