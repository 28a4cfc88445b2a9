"""Where logs go: the core's own to stderr and a file, each worker's stderr to a file of its own; all redacted.

Nobody who logs ever waits for a terminal or a disk: threads of their own write (`background`).
"""

from waifu_llm.log.core import CORE_LOG, RedactingFormatter, set_up
from waifu_llm.log.sinks import ROTATE_BYTES, flush
from waifu_llm.log.worker import WorkerLog

__all__ = ["CORE_LOG", "ROTATE_BYTES", "RedactingFormatter", "WorkerLog", "flush", "set_up"]
