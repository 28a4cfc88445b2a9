"""A conversation as a provider's API takes it: roles folded, names put in front. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec

from waifu_worker.wire import ChatMessage

_FOLDED: Final = frozenset({"tool", "function"})
_NAMELESS: Final = "AI"


def name_in_front(message: ChatMessage) -> ChatMessage:
    """The message with its name, where it has one, before the content: for APIs that have no field for it."""
    if not message.name:
        return message
    return ChatMessage(role=message.role, content=f"{message.name}: {message.content}")


def fold_roles(messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """Tool and function messages as user messages with the name in front; the others as they are."""
    return tuple(
        msgspec.structs.replace(name_in_front(message), role="user") if message.role in _FOLDED else message
        for message in messages
    )


def name_in_prompt(character_name: str) -> str:
    """The character's name where a prompt needs one: a name of blanks is none, and is taken out of no answer."""
    return character_name if character_name.strip() else _NAMELESS


def transcript(messages: Iterable[ChatMessage], character_name: str, user_name: str = "User") -> str:
    """The conversation as plain text, for models that complete text: a line `name: text` per turn.

    System messages stand without a name; the last line is the character's, for the model to go on.
    """
    speakers = {"assistant": character_name, "user": user_name}
    lines = []
    for message in fold_roles(messages):
        speaker = message.name or speakers.get(message.role)
        lines.append(f"{speaker}: {message.content}" if speaker else message.content)
    lines.append(f"{character_name}:")
    return "\n".join(lines)
