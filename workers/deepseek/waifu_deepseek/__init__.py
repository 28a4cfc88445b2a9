"""The provider `deepseek`: DeepSeek's models, through its OpenAI-style API."""

from typing import Final

from msgspec.structs import replace

from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.chat_dialect import OPENAI_NAMES, Dialect
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import LoadRequest
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_base_url, clean_key

with without_certificates():
    import aiohttp

_PENALTIES: Final = frozenset({"presence_penalty", "frequency_penalty"})

# Models think unless told not to, and a companion that thinks first answers late.
DEEPSEEK: Final = Dialect(
    title="DeepSeek",
    length_fields=("max_tokens",),
    stop_limit=16,
    names=OPENAI_NAMES,
    samplers={name: name for name in ("top_p", *sorted(_PENALTIES))},
    extra={"thinking": {"type": "disabled"}},
)
# While it thinks, the service takes these and does nothing with them: not sent, they are reported as ignored.
THINKING: Final = replace(
    DEEPSEEK, extra={"thinking": {"type": "enabled"}}, without=frozenset({"temperature", "top_p"}) | _PENALTIES
)


class Provider(ChatCompletionsProvider):
    """One DeepSeek account, at one address."""

    dialect = DEEPSEEK
    samplers = frozenset(DEEPSEEK.samplers)

    def connect(self, request: LoadRequest) -> HttpClient:
        """Connections that carry the key."""
        self.dialect = THINKING if request.options.get("thinking") else DEEPSEEK
        key = clean_key(request.api_key, DEEPSEEK.title)
        headers = {"Authorization": f"Bearer {key}" if key else None}
        url = clean_base_url(request.options.get("base_url"))
        return HttpClient(aiohttp, Upstream(DEEPSEEK.title, url, key), headers)
