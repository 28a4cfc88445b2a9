"""The echo provider: says back what it hears, so that anyone can try the module without a key."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import cycle, islice
from typing import ClassVar, Final

from waifu_worker.messages import name_in_front
from waifu_worker.provider import Finish, GenerateRequest, LoadRequest, LoadResult, Piece, ProviderError
from waifu_worker.provider import Provider as Interface
from waifu_worker.wire import Code, ModelInfo, Usage

MODELS: Final = (
    ModelInfo(id="echo", kind="chat", owner="waifu-llm"),
    ModelInfo(id="echo-slow", kind="chat", owner="waifu-llm"),
    ModelInfo(id="lorem", kind="chat", owner="waifu-llm"),
)

_SLOW_S: Final = 0.1
# Each word with the blanks after it, the first one with those before it too: the pieces add up to the text.
_WORDS: Final = re.compile(r"\A\s+|\S+\s*")
_LOREM: Final = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore "
    "magna aliqua ut enim ad minim veniam quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo "
    "consequat"
).split()


class Provider(Interface):
    """`echo` streams the last user message back word by word, `echo-slow` a word each 100 ms, `lorem` as many
    words as `max_output_length` says. Usage counts words.
    """

    takes_prompt: ClassVar[bool] = True

    async def load(self, request: LoadRequest) -> LoadResult:
        """Nothing to check; a preload must name one of the models. Raises: ProviderError."""
        if request.preload_model_id is not None:
            request.report("model", request.preload_model_id, 1.0)
            _check(request.preload_model_id)
        return LoadResult(MODELS)

    async def models(self) -> Sequence[ModelInfo]:
        """The three there are."""
        return MODELS

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Piece]:
        """The words, one by one. Raises: ProviderError."""
        model_id = request.params.model_id
        _check(model_id)
        if model_id == "lorem":
            pieces, reason = _lorem(request.params.max_output_length), "length"
        else:
            pieces, reason = (match[0] for match in _WORDS.finditer(_last_words(request))), "stop"
        said = 0
        for piece in pieces:
            if model_id == "echo-slow" and said:
                await asyncio.sleep(_SLOW_S)
            yield piece
            said += not piece.isspace()
        heard = sum(len(message.content.split()) for message in request.messages) + len((request.prompt or "").split())
        yield Finish(reason, Usage(prompt_tokens=heard, completion_tokens=said, total_tokens=heard + said))


def _check(model_id: str) -> None:
    if all(model.id != model_id for model in MODELS):
        there_are = ", ".join(model.id for model in MODELS)
        raise ProviderError(Code.INVALID_MODEL, f"echo has no model {model_id[:64]!r}; there are: {there_are}")


def _last_words(request: GenerateRequest) -> str:
    if request.prompt is not None:
        return request.prompt
    spoken = (message for message in reversed(request.messages) if message.role == "user")
    message = next(spoken, None)
    return name_in_front(message).content if message is not None else ""


def _lorem(words: int) -> Iterator[str]:
    for index, word in enumerate(islice(cycle(_LOREM), words)):
        yield f" {word}" if index else word
