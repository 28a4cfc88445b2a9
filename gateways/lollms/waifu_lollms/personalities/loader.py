"""From the bytes of a `config.yaml` to a Personality. Pure; a file that is wrong says where and what was expected."""

import math
import re
from typing import Any, Final

from waifu_lollms.personalities.documents import DocumentError, Listing, Node, Scalar, Table, read_document
from waifu_lollms.personalities.model import Personality, Sampling
from waifu_lollms.personalities.places import component, refusal

DEFAULT_LANGUAGE: Final = "english"
_YES: Final = frozenset("y yes true on".split())
_NO: Final = frozenset("n no false off".split())
_NULL: Final = frozenset(("", "~", "null"))
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(?:[eE][-+]?[0-9]{1,3})?")
_RIGHT, _PUBLISHED = "include_welcome_message_in_discussion", "include_welcome_message_in_disucssion"


class BrokenFile(ValueError):
    """This file is no personality; its text is a sentence."""


def read_personality(data: bytes, *, language: str | None, category: str, folder: str) -> Personality:
    """The personality that a file's content describes, in the place where it was found.

    `language` None: the layout without it, where the file says it. The flags `has_scripts` and `has_logo` are not
    in the file and stay false.

    Raises: BrokenFile.
    """
    try:
        fields = _Fields(read_document(_decoded(data)))
    except DocumentError as error:
        raise BrokenFile(f"config.yaml, {error}") from error
    if language is None:
        language = fields.language()
    folder, category, language = component(folder), component(category), component(language)
    return Personality(
        key=f"{language}/{category}/{folder}",
        folder=folder,
        language=language,
        category=category,
        name=fields.text("name", "").strip() or folder,
        author=fields.text("author", ""),
        version=fields.text("version", ""),
        description=fields.text("personality_description", ""),
        conditioning=fields.text("personality_conditioning", ""),
        welcome_message=fields.text("welcome_message", ""),
        include_welcome_message=fields.switch(_RIGHT, fields.switch(_PUBLISHED, True)),
        user_name=fields.text("user_name", ""),
        user_message_prefix=fields.text("user_message_prefix", "!@> Human: "),
        link_text=fields.text("link_text", "\n").replace("\\n", "\n"),
        ai_message_prefix=fields.text("ai_message_prefix", "!@> lollms:"),
        anti_prompts=fields.texts("anti_prompts"),
        sampling=Sampling(
            temperature=fields.number("model_temperature"),
            top_k=fields.integer("model_top_k"),
            top_p=fields.number("model_top_p"),
            repeat_penalty=fields.number("model_repeat_penalty"),
            repeat_last_n=fields.integer("model_repeat_last_n"),
            n_predicts=fields.integer("model_n_predicts"),
        ),
        disclaimer=fields.text("disclaimer", ""),
        help=fields.text("help", ""),
        commands=fields.plain("commands"),
        dependencies=fields.plain("dependencies"),
        processor_cfg=fields.plain("processor_cfg"),
    )


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BrokenFile(f"config.yaml, line {line}: the text is not UTF-8") from error


class _Fields:
    """The fields of a file by name, each read as the type it must have; every method raises BrokenFile."""

    def __init__(self, table: Table) -> None:
        self._entries = {name: node for name, node in table.entries.items() if not _is_null(node)}

    def text(self, name: str, default: str) -> str:
        match self._entries.get(name):
            case None:
                return default
            case Scalar(text=text):
                return text
            case node:
                raise _wrong(name, "a text", node)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one text; those without a character are dropped."""
        match self._entries.get(name):
            case None:
                return ()
            case Scalar(text=text):
                return (text,) if text else ()
            case Listing(items=items):
                found = [item for item in items if not _is_null(item)]
                if bad := [item for item in found if not isinstance(item, Scalar)]:
                    raise _wrong(name, "a list of texts", bad[0])
                return tuple(item.text for item in found if isinstance(item, Scalar) and item.text)
            case node:
                raise _wrong(name, "a list of texts", node)

    def switch(self, name: str, default: bool) -> bool:
        node = self._entries.get(name)
        if node is None:
            return default
        word = node.text.lower() if isinstance(node, Scalar) else ""
        if word not in _YES | _NO:
            raise _wrong(name, "true or false", node)
        return word in _YES

    def number(self, name: str) -> float | None:
        node = self._entries.get(name)
        if node is None:
            return None
        value = _number(node.text) if isinstance(node, Scalar) else None
        if value is None:
            raise _wrong(name, "a number", node)
        return float(value)

    def integer(self, name: str) -> int | None:
        node = self._entries.get(name)
        if node is None:
            return None
        value = _number(node.text) if isinstance(node, Scalar) else None
        if value is None or abs(value) >= 2**53 or value != int(value):
            raise _wrong(name, "a whole number", node)
        return int(value)

    def language(self) -> str:
        """The layout's missing folder: lower case, as the published folders are."""
        found = self.text("language", DEFAULT_LANGUAGE).strip().lower()
        if refusal(found) is not None:
            raise _wrong("language", "the name of a language", self._entries["language"])
        return found

    def plain(self, name: str) -> Any:
        """Whatever stands there as lists, dicts, texts, numbers, booleans and None."""
        node = self._entries.get(name)
        return None if node is None else _plain(node)


def _is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.plain and node.text.lower() in _NULL


def _number(text: str) -> float | int | None:
    text = text.strip().replace("_", "")
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        value = float(text)
        return value if math.isfinite(value) else None
    return None


def _plain(node: Node) -> Any:
    match node:
        case Listing(items=items):
            return [_plain(item) for item in items]
        case Table(entries=entries):
            return {name: _plain(value) for name, value in entries.items()}
        case Scalar(text=text, plain=False):
            return text
    if _is_null(node):
        return None
    if (word := node.text.lower()) in ("true", "yes", "on", "false", "no", "off"):
        return word in _YES
    number = _number(node.text)
    return node.text if number is None else number


def _wrong(name: str, expected: str, node: Node) -> BrokenFile:
    kind = "a list" if isinstance(node, Listing) else "a group of fields"
    found = repr(node.text[:40]) if isinstance(node, Scalar) else kind
    return BrokenFile(f"config.yaml, line {node.line + 1}: {name} must be {expected}, not {found}")
