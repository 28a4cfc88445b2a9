"""What tells one OpenAI-style service from another, and what was learnt of its models. No I/O."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from waifu_worker.generation import SAMPLERS
from waifu_worker.messages import name_in_front
from waifu_worker.wire import ChatMessage, Params

JsonValue: TypeAlias = "str | int | float | bool | Sequence[JsonValue] | Mapping[str, JsonValue] | None"

# What OpenAI takes as a message's name, and with it those who took over its API to the letter.
OPENAI_NAMES: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
# Model ids are the clients' to choose; what is forgotten costs one refused request to learn again.
_MOST_MODELS: Final = 1024


class Dialect(msgspec.Struct, frozen=True):
    """What tells one OpenAI-style service from another.

    `length_fields`: names of the field for the output length; a refused one makes way for the next.
    `stop_limit`: how many stops it takes, None for any number; the runtime enforces all of them anyway.
    `names`: what a message's `name` must match; None where the service has no such field.
    `temperature`: the range it takes. `samplers`: its field for each sampling parameter that it has.
    `extra`: fields to send with every request. `thinking_extra`: those for models that were seen to think in
    their text. `without`: fields never to send, because the service takes them and does nothing with them.
    `usage_option`: whether it takes `stream_options`. `key_path`: a free request that only good keys may make,
    where the list of models is for everybody. `text_path`: where raw text is completed, None for nowhere.
    """

    title: str
    length_fields: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    stop_limit: int | None = 4
    names: re.Pattern[str] | None = None
    temperature: tuple[float, float] = (0.0, 2.0)
    samplers: Mapping[str, str] = msgspec.field(default_factory=dict)
    extra: Mapping[str, JsonValue] = msgspec.field(default_factory=dict)
    thinking_extra: Mapping[str, JsonValue] = msgspec.field(default_factory=dict)
    without: frozenset[str] = frozenset()
    usage_option: bool = True
    key_path: str | None = None
    chat_path: str = "/chat/completions"
    text_path: str | None = None
    models_path: str = "/models"

    def messages(self, messages: Iterable[ChatMessage]) -> list[dict[str, str]]:
        """The messages as the service takes them; a name that doesn't fit goes in front of the content."""
        return [
            self._named(message) if message.name else {"role": message.role, "content": message.content}
            for message in messages
        ]

    def for_text(self) -> "Dialect":
        """The same for raw text, where no service has given the length its newer name."""
        return msgspec.structs.replace(self, length_fields=("max_tokens",))

    def fields(self, params: Params, refused: frozenset[str], *, thinks: bool = False) -> dict[str, JsonValue]:
        """All fields that the service might refuse by name, without those it has refused."""
        low, high = self.temperature
        stops = [stop for stop in params.stops if stop][: self.stop_limit]
        fields: dict[str, JsonValue] = {"temperature": min(max(params.temperature, low), high)}
        if stops:
            fields["stop"] = stops
        if self.usage_option:
            fields["stream_options"] = {"include_usage": True}
        for ours, theirs in self.samplers.items():
            value = getattr(params, ours)
            if value is not None:
                fields[theirs] = value
        fields |= self.extra
        if thinks:
            fields |= self.thinking_extra
        length = next((name for name in self.length_fields if name not in refused), None)
        if length is not None:
            fields[length] = params.max_output_length
        unwanted = refused | self.without
        return {name: value for name, value in fields.items() if name not in unwanted}

    def ignored(self, params: Params, sent: Mapping[str, JsonValue]) -> tuple[str, ...]:
        """The client's parameters that the service did not get; 1 is the temperature of those that take none."""
        ignored = []
        if "temperature" not in sent and params.temperature != 1:
            ignored.append("temperature")
        if not any(name in sent for name in self.length_fields):
            ignored.append("max_output_length")
        ignored += [
            ours for ours in SAMPLERS if getattr(params, ours) is not None and self.samplers.get(ours) not in sent
        ]
        return tuple(ignored)

    def _named(self, message: ChatMessage) -> dict[str, str]:
        if self.names is not None and message.name and self.names.fullmatch(message.name):
            return {"role": message.role, "content": message.content, "name": message.name}
        return {"role": message.role, "content": name_in_front(message).content}


class Learnt:
    """What the models of each address have shown. Kept for a worker's life: model tables rot too fast to ship one."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], frozenset[str]] = {}
        self._thinkers: set[tuple[str, str]] = set()

    def refused(self, url: str, model: str) -> frozenset[str]:
        """The fields that this model at this address refused so far."""
        return self._refused.get((url, model), frozenset())

    def add_refused(self, url: str, model: str, name: str) -> None:
        """Never send the field `name` to this model again."""
        if len(self._refused) >= _MOST_MODELS:
            self._refused.clear()
        self._refused[url, model] = self.refused(url, model) | {name}

    def thinks(self, url: str, model: str) -> bool:
        """Whether this model wrote its thinking into an answer."""
        return (url, model) in self._thinkers

    def add_thinker(self, url: str, model: str) -> None:
        """This model writes its thinking into its answers."""
        if len(self._thinkers) >= _MOST_MODELS:
            self._thinkers.clear()
        self._thinkers.add((url, model))
