"""Where the memory comes from that sockets are read into: alike in the product, its limit and what measures them."""

from typing import Final

# asyncio asks for 256 KiB whenever a socket has something.
_MORE_THAN_A_READ: Final = 512 * 1024


def keep_what_reads_take() -> None:
    """Have this process read into memory that it has, where glibc would map and unmap a block for each read.

    The limit above which it does that rises over the largest such block that was freed (mallopt(3), M_MMAP_THRESHOLD).
    """
    bytes(_MORE_THAN_A_READ)
