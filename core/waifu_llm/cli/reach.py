"""A client of a module that was found through its run file."""

from typing import TYPE_CHECKING, Final

from waifu_llm.runfile import RunningModule

if TYPE_CHECKING:
    from ssl import SSLContext

    from waifu_client import Client


# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name.
_AT_ANY_TIME: Final = 0x200000


async def reach(module: RunningModule) -> "Client":
    """Connect to it. Raises: LLMError, ValueError."""
    from waifu_client import Client  # late, as ssl: mostly no module runs

    return await Client.open(module.url, token=module.token, tls=_trusting(module.certificate))


def _trusting(certificate: str | None) -> "SSLContext | None":
    """Trusts this certificate, whoever signed it, whatever it is called and for how long, and no other."""
    if certificate is None:
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _AT_ANY_TIME
    context.load_verify_locations(cadata=certificate)
    return context
