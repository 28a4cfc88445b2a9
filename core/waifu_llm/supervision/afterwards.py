"""What may wait until all that came at once has been told: then it is done once, without a turn of the loop for it."""

import asyncio
import logging
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Afterwards:
    """Calls that are put off: to the end of the work that is under way, else to the next turn of the loop."""

    def __init__(self) -> None:
        self._put_off: list[Callable[[], None]] | None = None

    def during(self, work: Callable[[], None]) -> None:
        """Do this work, then what was put off meanwhile, also where the work fails. Raises: what `work` raises."""
        around, self._put_off = self._put_off, []
        try:
            work()
        finally:
            put_off, self._put_off = self._put_off, around
            for call in put_off:
                try:
                    call()
                except (Exception, asyncio.CancelledError):
                    # Those behind it are of others. What is no failure of one call, as an exit, ends the loop too.
                    _log.exception("an error inside the module")

    def do(self, call: Callable[[], None]) -> None:
        """Call it once the work that is under way is done; where none is, soon."""
        if self._put_off is None:
            asyncio.get_running_loop().call_soon(call)
        else:
            self._put_off.append(call)
