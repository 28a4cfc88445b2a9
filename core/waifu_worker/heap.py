"""Where the memory comes from that sockets are read into."""

from typing import Final

# asyncio asks for 256 KiB whenever a socket has something, and most of the time a few hundred bytes come.
_MORE_THAN_A_READ: Final = 512 * 1024


def keep_what_reads_take() -> None:
    """Have this process read into memory that it has, once and for all.

    glibc maps a block of over 128 KiB for itself and gives it back to the system when it is freed: for each read of a
    socket that is four system calls in place of one, and a page that is cleared anew. The limit rises above the largest
    such block that was freed (mallopt(3), M_MMAP_THRESHOLD; other libraries lose nothing by it), but what was read is
    cut to its length before that, and so never is one.
    """
    bytes(_MORE_THAN_A_READ)
