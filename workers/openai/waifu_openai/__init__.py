"""The provider `openai`: OpenAI's Chat Completions API."""

from typing import Final

from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.chat_dialect import OPENAI_NAMES, Dialect
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import LoadRequest
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_base_url, clean_key, header_value

with without_certificates():
    import aiohttp

OPENAI: Final = Dialect(
    title="OpenAI",
    names=OPENAI_NAMES,
    samplers={name: name for name in ("top_p", "presence_penalty", "frequency_penalty", "seed")},
)


class Provider(ChatCompletionsProvider):
    """One OpenAI account, at one address."""

    dialect = OPENAI
    samplers = frozenset(OPENAI.samplers)

    def connect(self, request: LoadRequest) -> HttpClient:
        """Connections that carry the key, and the organization and project that are charged."""
        options = request.options
        key = clean_key(request.api_key, OPENAI.title)
        headers = {
            "Authorization": f"Bearer {key}" if key else None,
            "OpenAI-Organization": header_value(options.get("organization"), "organization"),
            "OpenAI-Project": header_value(options.get("project"), "project"),
        }
        return HttpClient(aiohttp, Upstream(OPENAI.title, clean_base_url(options.get("base_url")), key), headers)
