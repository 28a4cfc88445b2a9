"""The provider `openai_compatible`: any server that speaks OpenAI's Chat Completions."""

from msgspec.structs import replace

from waifu_openai_compatible.presets import ANY, PRESETS
from waifu_worker.chat_completions import ChatCompletionsProvider
from waifu_worker.generation import SAMPLERS
from waifu_worker.http_client import HttpClient
from waifu_worker.provider import LoadRequest, ProviderError
from waifu_worker.tls import without_certificates
from waifu_worker.upstream import Upstream, clean_base_url, clean_key
from waifu_worker.wire import Code

with without_certificates():
    import aiohttp


class Provider(ChatCompletionsProvider):
    """One server, with or without a key. The load's address goes before the preset's."""

    dialect = ANY.dialect
    # What a preset lacks is reported by its dialect.
    samplers = frozenset(SAMPLERS)
    takes_prompt = True
    thinks_in_text = True

    def connect(self, request: LoadRequest) -> HttpClient:
        """Connections in the way of the load's preset. Raises: ProviderError where nothing says where to."""
        options = request.options
        preset = PRESETS.get(str(options.get("preset")), ANY)
        url = options.get("base_url") or preset.url
        if url is None:
            raise ProviderError(
                Code.UNEXPECTED,
                "nothing says where the server is: give the load a base_url, like http://127.0.0.1:8080/v1, or a preset"
                f" ({', '.join(PRESETS)}), or set OPENAI_COMPATIBLE_BASE_URL or OPENAI_COMPATIBLE_PRESET",
            )
        field = options.get("max_tokens_field")
        self.dialect = replace(preset.dialect, length_fields=(field,)) if isinstance(field, str) else preset.dialect
        title = self.dialect.title
        key = clean_key(request.api_key, title)
        headers = {**preset.headers, "Authorization": f"Bearer {key}" if key else None}
        return HttpClient(aiohttp, Upstream(title, clean_base_url(url), key), headers)
