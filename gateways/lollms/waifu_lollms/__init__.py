"""The LoLLMs gateway: Socket.IO programs written for LoLLMs servers talk to the module through it."""

from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from waifu_worker.stdio import Pipes


def run(pipes: "Pipes", *, name: str) -> NoReturn:
    """Be the gateway until its input ends: the one entry point, called by its seed once the wire is claimed."""
    from waifu_lollms.life import serve
    from waifu_worker.gateway import run_gateway

    run_gateway(pipes, name, serve)
