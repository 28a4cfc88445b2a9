"""What a client author uses: websockets and msgspec, nothing of the core.

    async with waifu_client.connect() as llm:
        await llm.load("echo")
        async for piece in llm.stream("Hello"):
            print(piece, end="")

`connect_blocking` is the same without asyncio.
"""

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from waifu_client.blocking import BlockingClient, BlockingStream, connect_blocking
    from waifu_client.client import Client, connect
    from waifu_client.errors import (
        AuthorizationError,
        ConnectionLost,
        Interrupted,
        InvalidModel,
        InvalidPrompt,
        InvalidProvider,
        LLMError,
        ModuleNotRunning,
        TimedOut,
        UnexpectedError,
    )
    from waifu_client.protocol import ErrorCode, LoadProgress, Message, Usage
    from waifu_client.results import Answer, Loaded, Models, Providers
    from waifu_client.stream import Stream

__all__ = [
    "Answer",
    "AuthorizationError",
    "BlockingClient",
    "BlockingStream",
    "Client",
    "ConnectionLost",
    "ErrorCode",
    "Interrupted",
    "InvalidModel",
    "InvalidPrompt",
    "InvalidProvider",
    "LLMError",
    "LoadProgress",
    "Loaded",
    "Message",
    "Models",
    "ModuleNotRunning",
    "Providers",
    "Stream",
    "TimedOut",
    "UnexpectedError",
    "Usage",
    "connect",
    "connect_blocking",
]

_HOMES: Final = {
    "blocking": ("BlockingClient", "BlockingStream", "connect_blocking"),
    "client": ("Client", "connect"),
    "protocol": ("ErrorCode", "LoadProgress", "Message", "Usage"),
    "results": ("Answer", "Loaded", "Models", "Providers"),
    "stream": ("Stream",),
}


def __getattr__(name: str) -> Any:
    # Names are fetched when they are used: the core imports `waifu_client.protocol` and must not pay for a client.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = next((module for module, names in _HOMES.items() if name in names), "errors")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    """What there is, also before anybody asked for it: a shell completes from this."""
    return sorted(__all__)
