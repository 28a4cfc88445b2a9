"""The worker `openai`, driven under the runtime's rules against a fake OpenAI."""

from fakes.upstream.openai_api import GOOD_KEY
from fakes.upstream.server import OpenAI
from support.contract import Described, ProviderContract

from waifu_worker.wire import Code

ERRORS = {
    "country": (Code.AUTHORIZATION, None),
    "edge": (Code.UNEXPECTED, "provider_down"),
    "payment": (Code.AUTHORIZATION, "quota"),
    "not-chat": (Code.INVALID_MODEL, None),
    "no-access": (Code.INVALID_MODEL, None),
    "context": (Code.INVALID_PROMPT, None),
    "policy": (Code.INVALID_PROMPT, "refused"),
    "moderation": (Code.INVALID_PROMPT, "refused"),
    "too-large": (Code.INVALID_PROMPT, None),
    "bad-messages": (Code.INVALID_PROMPT, None),
    "unprocessable": (Code.INVALID_PROMPT, None),
    "rate": (Code.UNEXPECTED, "rate_limited"),
    "rate-bare": (Code.UNEXPECTED, "rate_limited"),
    "quota": (Code.AUTHORIZATION, "quota"),
    "credit": (Code.AUTHORIZATION, "quota"),
    "slow-down": (Code.UNEXPECTED, "rate_limited"),
    "conflict": (Code.UNEXPECTED, "rate_limited"),
    "capacity": (Code.UNEXPECTED, "rate_limited"),
    "internal": (Code.UNEXPECTED, "provider_down"),
    "bad-gateway": (Code.UNEXPECTED, "provider_down"),
    "overloaded": (Code.UNEXPECTED, "provider_down"),
    "overloaded-529": (Code.UNEXPECTED, "provider_down"),
    "request-timeout": (Code.TIMEOUT, "provider_timeout"),
    "gateway-timeout": (Code.TIMEOUT, "provider_timeout"),
    "origin-timeout": (Code.TIMEOUT, "provider_timeout"),
    "odd": (Code.UNEXPECTED, None),
}


class TestContract(ProviderContract):
    described = Described(provider="openai", api=OpenAI, key=GOOD_KEY, model="gpt-4o-mini", errors=ERRORS)
