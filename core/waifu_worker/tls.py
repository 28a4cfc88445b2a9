"""TLS to services: this machine's certificates are read once, and only where an address asks for TLS.

aiohttp reads them twice while it is imported, a fifth of an API worker's start, also for a service without TLS.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

# Where OpenSSL looks, in place of its own folder.
_WHERE: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
# The one protocol that aiohttp speaks.
_PROTOCOLS: Final = ("http/1.1",)

_made: "list[ssl.SSLContext]" = []
_making: Final = threading.Lock()


@contextmanager
def without_certificates() -> Iterator[None]:
    """For the import of a library that makes TLS contexts meanwhile: they know no certificate, so that they refuse
    every service, unless the system has certificates in no file (Windows), which they check against as ever.
    """
    before = {name: os.environ.get(name) for name in _WHERE}
    os.environ.update(dict.fromkeys(_WHERE, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def context() -> "ssl.SSLContext":
    """What aiohttp checks a service with by itself, the same one at each call; blocks while it is made, from any
    thread. Raises: OSError.
    """
    import ssl

    with _making:
        if not _made:
            made = ssl.create_default_context()
            made.set_alpn_protocols(_PROTOCOLS)
            _made.append(made)
        return _made[0]
