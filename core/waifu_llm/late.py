"""What this module's own process puts off: libraries import it, and nothing looks into it before the module listens."""

from waifu_worker import late

# For the first client, the first worker, the first error.
SOON = ("email.utils", "hashlib", "hmac", "linecache", "random", "secrets", "shutil", "textwrap")
# For TLS, for a look at what is installed, for schemas.
RARELY = ("asyncio.sslproto", "importlib.metadata", "msgspec.inspect", "ssl")


def postpone() -> None:
    """From now on all of them run at the first look at them."""
    late.postpone((*SOON, *RARELY))


def catch_up() -> None:
    """Run those for which somebody would soon wait, if they were imported; some milliseconds, in any thread."""
    late.catch_up(SOON)
