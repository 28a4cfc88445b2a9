"""The servers that speak OpenAI's API in a way of their own: one row each, and no code."""

from collections.abc import Mapping
from typing import Final

import msgspec

from waifu_worker.chat_dialect import OPENAI_NAMES, Dialect

_OPENAI: Final = {name: name for name in ("top_p", "presence_penalty", "frequency_penalty", "seed")}
_CUTS: Final = {"top_k": "top_k", "min_p": "min_p"}


class Preset(msgspec.Struct, frozen=True):
    """One kind of server. `url`: where it is unless the load says so; None where only the load can."""

    url: str | None
    dialect: Dialect
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


# Any server: the older name of the length, which all know; names in front, since chat templates have none.
ANY: Final = Preset(
    None,
    Dialect(
        title="the server",
        length_fields=("max_tokens", "max_completion_tokens"),
        stop_limit=4,
        samplers={**_OPENAI, **_CUTS, "repeat_penalty": "repeat_penalty"},
        text_path="/completions",
    ),
)

PRESETS: Final[Mapping[str, Preset]] = {
    "lmstudio": Preset(
        "http://127.0.0.1:1234/v1",
        Dialect(
            title="LM Studio",
            length_fields=("max_tokens",),
            stop_limit=None,
            samplers={**_OPENAI, "top_k": "top_k", "repeat_penalty": "repeat_penalty"},
            text_path="/completions",
        ),
    ),
    "llama_cpp": Preset(
        "http://127.0.0.1:8080/v1",
        Dialect(
            title="llama.cpp",
            length_fields=("max_tokens",),
            stop_limit=None,
            samplers={**_OPENAI, **_CUTS, "repeat_penalty": "repeat_penalty", "repeat_last_n": "repeat_last_n"},
            text_path="/completions",
        ),
    ),
    "vllm": Preset(
        "http://127.0.0.1:8000/v1",
        Dialect(
            title="vLLM",
            length_fields=("max_completion_tokens", "max_tokens"),
            stop_limit=None,
            samplers={**_OPENAI, **_CUTS, "repeat_penalty": "repetition_penalty"},
            text_path="/completions",
        ),
    ),
    "tabbyapi": Preset(
        "http://127.0.0.1:5000/v1",
        Dialect(
            title="TabbyAPI",
            length_fields=("max_tokens",),
            stop_limit=None,
            samplers={
                **_CUTS,
                "top_p": "top_p",
                "presence_penalty": "presence_penalty",
                "frequency_penalty": "frequency_penalty",
                "repeat_penalty": "repetition_penalty",
            },
            text_path="/completions",
        ),
    ),
    "ollama": Preset(
        "http://127.0.0.1:11434/v1",
        Dialect(
            title="Ollama", length_fields=("max_tokens",), stop_limit=None, samplers=_OPENAI, text_path="/completions"
        ),
    ),
    "transformers": Preset(
        "http://127.0.0.1:8000/v1",
        Dialect(
            title="transformers serve",
            length_fields=("max_tokens",),
            stop_limit=None,
            samplers={"top_p": "top_p", "frequency_penalty": "frequency_penalty", "seed": "seed"},
            usage_option=False,
            text_path="/completions",
        ),
    ),
    "openrouter": Preset(
        "https://openrouter.ai/api/v1",
        Dialect(
            title="OpenRouter",
            length_fields=("max_tokens",),
            names=OPENAI_NAMES,
            samplers={**_OPENAI, **_CUTS, "repeat_penalty": "repetition_penalty"},
            key_path="/key",
            text_path="/completions",
        ),
        {"X-Title": "waifu-llm"},
    ),
    "mistral": Preset(
        "https://api.mistral.ai/v1",
        Dialect(
            title="Mistral",
            length_fields=("max_tokens",),
            stop_limit=None,
            temperature=(0.0, 1.5),
            samplers={**_OPENAI, "seed": "random_seed"},
            usage_option=False,
        ),
    ),
    "xai": Preset(
        "https://api.x.ai/v1",
        Dialect(
            title="xAI", length_fields=("max_completion_tokens", "max_tokens"), names=OPENAI_NAMES, samplers=_OPENAI
        ),
    ),
    "cohere": Preset(
        "https://api.cohere.com/compatibility/v1",
        Dialect(
            title="Cohere",
            length_fields=("max_tokens",),
            stop_limit=5,
            temperature=(0.0, 1.0),
            samplers=_OPENAI,
            usage_option=False,
        ),
    ),
}
