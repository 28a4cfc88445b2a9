"""What a load's options mean, and how a model is named. Pure."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from waifu_worker.provider import ProviderError
from waifu_worker.upstream import clean_base_url
from waifu_worker.wire import Code, OptionValue, Params

HOSTED: Final = "https://ollama.com"
_SECONDS: Final = re.compile(r"-?\d+")
_DURATION: Final = re.compile(r"-?(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h))+")
SAMPLERS: Final = (
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repeat_last_n",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)


class Settings(msgspec.Struct, frozen=True):
    """One load's options. None: Ollama decides."""

    base_url: str
    keep_alive: str | int | None = None
    num_ctx: int | None = None
    pull: bool = False

    @property
    def memory(self) -> dict[str, object]:
        """The fields that say how a model is kept in memory."""
        fields: dict[str, object] = {"options": {"num_ctx": self.num_ctx}} if self.num_ctx else {}
        return fields | ({} if self.keep_alive is None else {"keep_alive": self.keep_alive})

    def generation(self, params: Params) -> dict[str, object]:
        """The same with everything that a generation asks for."""
        options: dict[str, object] = {"temperature": params.temperature, "num_predict": params.max_output_length}
        stops = [stop for stop in params.stops if stop]
        if stops:
            options["stop"] = stops
        options |= {name: value for name in SAMPLERS if (value := getattr(params, name)) is not None}
        if self.num_ctx:
            options["num_ctx"] = self.num_ctx
        return self.memory | {"options": options}


def read_settings(options: Mapping[str, OptionValue]) -> Settings:
    """Raises: ProviderError where an option can't be right."""
    num_ctx = options.get("num_ctx")
    if num_ctx is not None and (not isinstance(num_ctx, int) or num_ctx < 1):
        raise ProviderError(Code.UNEXPECTED, "num_ctx must be a number of tokens, at least 1")
    # Its documentation counts /api as part of the address, its own programs don't.
    base_url = clean_base_url(options.get("base_url")).removesuffix("/api")
    if urlsplit(base_url).hostname == "ollama.com":
        # Its name alone means this, and no key goes there in the clear.
        base_url = HOSTED
    return Settings(base_url, _keep_alive(options.get("keep_alive")), num_ctx, bool(options.get("pull")))


def _keep_alive(value: OptionValue) -> str | int | None:
    text = str(value).strip() if value is not None else ""
    if not text:
        return None
    if _SECONDS.fullmatch(text):
        # Ollama takes seconds as a number only.
        return int(text)
    if not _DURATION.fullmatch(text):
        raise ProviderError(Code.UNEXPECTED, "keep_alive must be like 10m, 1h30m, a number of seconds, or -1")
    return text


def tagged(model: str) -> str:
    """The full name of a model, fit to be compared: no tag means `latest`, and case means nothing."""
    model = model.lower()
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"
