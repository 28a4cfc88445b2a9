"""From what a program holds to what the protocol sends: messages in several forms, parameters by name. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias, TypedDict

import msgspec

from waifu_client.errors import InvalidPrompt
from waifu_client.protocol import GenerateParams, Message

Messages: TypeAlias = str | Iterable[Message | Mapping[str, object]]


class Params(TypedDict, total=False):
    """How to generate, by name; what is left out has the protocol's value (see `GenerateParams`)."""

    character_name: str
    temperature: float
    max_output_length: int
    stop_tokens: Sequence[str | int] | None
    timeout_ms: int | None
    top_p: float | None
    top_k: int | None
    min_p: float | None
    repeat_penalty: float | None
    repeat_last_n: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    seed: int | None


def as_messages(messages: Messages) -> list[Message]:
    """A text as one user message; dicts and `Message`s as they are. Raises: InvalidPrompt."""
    if isinstance(messages, str):
        return [Message(role="user", content=messages)]
    try:
        return [each if isinstance(each, Message) else msgspec.convert(each, Message) for each in messages]
    except msgspec.ValidationError as error:
        raise InvalidPrompt(f"a message is not as it must be: {error}") from None


def as_params(model_id: str | None, params: Params) -> GenerateParams:
    """The parameters of one request, with "" for a model still to be chosen.

    Raises: InvalidPrompt, TypeError for a name that is none.
    """
    if unknown := params.keys() - Params.__annotations__.keys():
        raise TypeError(f"no such parameter: {', '.join(sorted(unknown))}")
    try:
        return msgspec.convert({**params, "model_id": model_id or ""}, GenerateParams)
    except msgspec.ValidationError as error:
        raise InvalidPrompt(f"a parameter is not as it must be: {error}") from None
