"""What a model reads: its chat template filled, a transcript where it has none, or raw text as it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from waifu_worker.messages import name_in_front, name_in_prompt, transcript
from waifu_worker.provider import GenerateRequest, ProviderError
from waifu_worker.wire import ChatMessage, Code

_THINK: Final = "<think>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """`ids` are read by the model, `begun` is text that the answer already has before its first token.

    `continues`: the answer goes on where the text ended, blanks and all. `turns`: what begins somebody else's
    turn and so ends the answer; a model without a template would go on with the whole conversation.
    """

    ids: Sequence[int]
    begun: str = ""
    continues: bool = False
    turns: tuple[str, ...] = ()


def make_prompt(tokenizer: Any, request: GenerateRequest) -> Prompt:
    """The prompt of a request; `tokenizer` is one of transformers. Raises: ProviderError (INVALID_PROMPT)."""
    if request.prompt is not None:
        # Who wrote the first token himself does not want it twice.
        begins = bool(tokenizer.bos_token) and request.prompt.startswith(tokenizer.bos_token)
        return Prompt(_ids(tokenizer, request.prompt, special=not begins), continues=True)
    name = name_in_prompt(request.params.character_name)
    if not _has_template(tokenizer):
        text = transcript(request.messages, name)
        return Prompt(_ids(tokenizer, text), turns=_turns(request.messages, name))
    text = _fill(tokenizer, [name_in_front(message) for message in request.messages])
    # Some templates begin the thinking themselves; the runtime takes it away where it sees it begin.
    begun = _THINK if text.rstrip().endswith(_THINK) else ""
    return Prompt(_ids(tokenizer, text, special=False), begun)


def simplest(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The same said so that the strictest template takes it: no system role, and no role twice in a row."""
    merged: list[ChatMessage] = []
    for message in messages:
        role = "user" if message.role == "system" else message.role
        if merged and merged[-1].role == role:
            joined = f"{merged[-1].content}\n\n{message.content}"
            merged[-1] = msgspec.structs.replace(merged[-1], content=joined)
        else:
            merged.append(ChatMessage(role=role, content=message.content))
    return merged


def _has_template(tokenizer: Any) -> bool:
    try:
        return bool(tokenizer.get_chat_template())
    except ValueError:
        return False


def _fill(tokenizer: Any, messages: Sequence[ChatMessage]) -> str:
    from jinja2.exceptions import TemplateError

    refusal = ""
    for attempt in (messages, simplest(messages)):
        turns = [{"role": message.role, "content": message.content} for message in attempt]
        try:
            filled = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=False, enable_thinking=False
            )
        except TemplateError as error:
            refusal = refusal or str(error)
        else:
            return str(filled)
    raise ProviderError(Code.INVALID_PROMPT, f"the model's chat template refuses these messages: {refusal[:300]}")


def _turns(messages: Sequence[ChatMessage], character_name: str) -> tuple[str, ...]:
    names = {message.name or "User" for message in messages if message.role == "user"}
    return tuple(f"\n{name}:" for name in sorted((names | {"User"}) - {character_name}))


def _ids(tokenizer: Any, text: str, *, special: bool = True) -> list[int]:
    # A text with a lone surrogate cannot be encoded; the wire's JSON lets one through.
    clean = text.encode("utf-8", "replace").decode("utf-8")
    # verbose: the length is checked by us, with an error instead of a warning.
    ids: list[int] = tokenizer(clean, add_special_tokens=special, verbose=False)["input_ids"]
    return ids
