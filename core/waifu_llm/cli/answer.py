"""One conversation as it is sent, and an answer as it is written while it comes."""

import sys
from dataclasses import dataclass, field
from typing import Final, TypedDict

from waifu_client import Client, LLMError
from waifu_client.protocol import Message
from waifu_llm.cli.text import printable

# The protocol's own values, 200 tokens and 60 s, are for short spoken lines.
MAX_TOKENS: Final = 2048
TIMEOUT_MS: Final = 300_000


class Request(TypedDict):
    """What `Client.generate` and `Client.stream` are called with."""

    messages: list[Message]
    model_id: str | None
    provider: str
    max_output_length: int
    timeout_ms: int


@dataclass(slots=True)
class Answering:
    """Who answers, and what was said so far. An answer that failed leaves no trace, so that it can be asked again."""

    provider: str
    model: str | None
    system: str | None = None
    said: list[Message] = field(default_factory=list)

    def ask(self, prompt: str) -> None:
        """The user's next turn."""
        self.said.append(Message(role="user", content=prompt))

    def answered(self, text: str) -> None:
        """The model's turn, or as much of it as there was; without any the question is taken back."""
        if text:
            self.said.append(Message(role="assistant", content=text))
        else:
            self.said.pop()

    def request(self) -> Request:
        """The next generation."""
        system = [Message(role="system", content=self.system)] if self.system else []
        return Request(
            messages=[*system, *self.said],
            model_id=self.model,
            provider=self.provider,
            max_output_length=MAX_TOKENS,
            timeout_ms=TIMEOUT_MS,
        )


async def write_answer(client: Client, answering: Answering) -> str | None:
    """Stream the answer to stdout and keep it in the conversation; returns its finish reason.

    Raises: LLMError. Cancelling it interrupts the generation; what was written stays in the conversation.
    """
    pieces: list[str] = []
    end = "\n"
    try:
        stream = client.stream(**answering.request())
        async for piece in stream:
            pieces.append(piece)
            sys.stdout.write(printable(piece))
            sys.stdout.flush()
    except LLMError:
        end = "\n" if pieces else ""
        raise
    finally:
        text = "".join(pieces)
        answering.answered(text)
        sys.stdout.write("" if text.endswith("\n") else end)
        sys.stdout.flush()
    return stream.finish_reason
