"""What Ollama's own sentences mean, where the table for all services can't know. Pure."""

import re
from typing import Final

from waifu_worker.http_errors import Refusal, failure
from waifu_worker.provider import ProviderError
from waifu_worker.upstream import Upstream
from waifu_worker.wire import Code

_MEMORY: Final = re.compile(
    r"requires more (?:system )?memory|out of memory|outofmemory|cudamalloc failed|unable to allocate"
    r"|(?:not enough|insufficient) (?:system )?(?:memory|vram)|unable to load full model on gpu",
    re.IGNORECASE,
)
_NO_MODEL: Final = re.compile(r"\bmodel\b.*\bnot found|try pulling it|invalid model name", re.IGNORECASE)
_NO_MANIFEST: Final = re.compile(r"pull model manifest|file does not exist|manifest unknown", re.IGNORECASE)
_NO_TALKER: Final = re.compile(r"does not support (?:chat|generate|completion)", re.IGNORECASE)
_BUSY: Final = re.compile(r"server busy|maximum pending requests", re.IGNORECASE)
_THINKING: Final = re.compile(r"\bthink(?:ing)?\b", re.IGNORECASE)


def told(upstream: Upstream, refusal: Refusal, *, has_key: bool = False) -> ProviderError:
    """The error to raise for a failed answer, or for an error line in one that began well."""
    said = refusal.said.message
    model = upstream.quote(refusal.model or "asked for")
    quoted = upstream.quote(said).rstrip(".")
    found: tuple[Code, str | None, str] | None = None
    if _MEMORY.search(said):
        found = (
            Code.UNEXPECTED,
            "out_of_memory",
            f"the model {model} does not fit into the memory of the machine that Ollama runs on ({quoted})."
            " Use a smaller model, load with a smaller num_ctx, or unload another model.",
        )
    elif refusal.status in (400, 404) and _NO_MODEL.search(said):
        found = (
            Code.INVALID_MODEL,
            None,
            f"Ollama at {upstream.host} does not have the model {model} ({quoted}). Fetch it there with: ollama pull"
            f" {model}, or load with preload_model_id and pull: true.",
        )
    elif _NO_MANIFEST.search(said):
        found = Code.INVALID_MODEL, None, f"Ollama finds no model {model} to pull ({quoted}). Look at its name and tag."
    elif refusal.status == 400 and _NO_TALKER.search(said):
        found = Code.INVALID_MODEL, None, f"the model {model} writes no text ({quoted}). Choose another."
    elif refusal.status == 503 and _BUSY.search(said):
        found = Code.UNEXPECTED, "busy", f"Ollama at {upstream.host} has too many requests ({quoted}). Try again later."
    elif refusal.status == 401 and not has_key:
        found = (
            Code.AUTHORIZATION,
            None,
            f"Ollama at {upstream.host} asks for an account ({quoted}). Run: ollama signin, or give api_key.",
        )
    if found is None:
        return failure(upstream, refusal)
    code, reason, message = found
    return ProviderError(
        code, message, reason=reason, retry_after_ms=refusal.retry_after_ms, http_status=refusal.status
    )


def refuses_think(refusal: Refusal) -> bool:
    """Whether the model is one that can't be told whether to think."""
    return refusal.status == 400 and _THINKING.search(refusal.said.message) is not None


def not_running(upstream: Upstream, error: ProviderError) -> ProviderError:
    """A failure to reach Ollama, with what to do about it."""
    # What aiohttp says around it is the host once more, and an object that has to do with TLS.
    reason = getattr(error.__cause__, "os_error", error.__cause__)
    cause = upstream.quote(str(reason or "")) or "no answer"
    return ProviderError(
        Code.UNEXPECTED,
        f"Ollama does not run at {upstream.host} ({cause}). Start it (open its app, or run: ollama serve), or say"
        " where it runs with base_url or OLLAMA_HOST.",
        reason="provider_down",
    )
