"""A client of a module that was found through its run file."""

from typing import TYPE_CHECKING

from waifu_llm.runfile import RunningModule

if TYPE_CHECKING:
    from ssl import SSLContext

    from waifu_client import Client


async def reach(module: RunningModule) -> "Client":
    """Connect to it. Raises: LLMError, ValueError."""
    from waifu_client import Client  # late, as ssl: mostly no module runs

    return await Client.open(module.url, token=module.token, tls=_trusting(module.certificate))


def _trusting(certificate: str | None) -> "SSLContext | None":
    """Trusts this certificate, whoever signed it and whatever it is called, and no other."""
    if certificate is None:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context
