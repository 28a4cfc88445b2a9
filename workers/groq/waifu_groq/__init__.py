"""The provider `groq`: models on Groq's own processors, through its OpenAI-style API."""

from typing import Final

from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.chat_dialect import Dialect
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import LoadRequest
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_base_url, clean_key

with without_certificates():
    import aiohttp

# Groq's own clients add it: GROQ_BASE_URL is a host.
_PATH: Final = "/openai/v1"

# A message with a name and the penalties are refused; usage comes without being asked for. `reasoning_format` is
# refused by models that don't think, and by those that keep their thinking out of the text by themselves.
GROQ: Final = Dialect(
    title="Groq",
    samplers={"top_p": "top_p", "seed": "seed"},
    thinking_extra={"reasoning_format": "hidden"},
    usage_option=False,
)


class Provider(ChatCompletionsProvider):
    """One Groq account, at one address."""

    dialect = GROQ
    samplers = frozenset(GROQ.samplers)
    thinks_in_text = True

    def connect(self, request: LoadRequest) -> HttpClient:
        """Connections that carry the key."""
        key = clean_key(request.api_key, GROQ.title)
        url = clean_base_url(request.options.get("base_url"))
        headers = {"Authorization": f"Bearer {key}" if key else None}
        return HttpClient(aiohttp, Upstream(GROQ.title, url.removesuffix(_PATH) + _PATH, key), headers)
