"""The text that the older models continue, out of a conversation. Pure."""

from collections.abc import Sequence
from typing import Final

from waifu_worker.messages import transcript
from waifu_worker.wire import ChatMessage

USER_NAME: Final = "User"
# The older models see their markers as text, and their markers only begin like this.
MARKER: Final = "<|"


def llama_turns(messages: Sequence[ChatMessage], character_name: str) -> str:
    """Llama 3's turns, each speaker under a name; the last turn is open, for the character to speak."""
    turns = [
        f"{_header(message.name or _speaker(message.role, character_name))}{_plain(message.content)}<|eot_id|>"
        for message in messages
    ]
    return "".join(["<|begin_of_text|>", *turns, _header(character_name)])


def plain_turns(messages: Sequence[ChatMessage], character_name: str) -> str:
    """A line `name: text` per turn, for models without markers."""
    return transcript(messages, character_name, USER_NAME)


def own_stops(messages: Sequence[ChatMessage]) -> tuple[str, ...]:
    """Where the character's turn is over, whatever the client says: another speaker's line, or a marker."""
    names = [message.name or USER_NAME for message in messages if message.role == "user"]
    return *(f"\n{name}:" for name in dict.fromkeys([*names, USER_NAME])), MARKER


def _speaker(role: str, character_name: str) -> str:
    return character_name if role == "assistant" else role


def _header(name: str) -> str:
    return f"<|start_header_id|>{_plain(name)}<|end_header_id|>\n\n"


def _plain(text: str) -> str:
    """Text that can't end its turn and begin one in somebody else's name."""
    return text.replace(MARKER, "< |")
