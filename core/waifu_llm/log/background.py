"""Writing that nobody waits for: a thread of its own carries texts to places that may block for ever."""

import atexit
import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

WAITING_CHARS: Final = 4 * 1024 * 1024
FLUSH_S: Final = 1.0
_LINGER_S: Final = 0.05

P = TypeVar("P", bound=Hashable)


class Background(Generic[P]):
    """Texts on their way to places, in order. `write` may block as long as it likes and raise what it likes.

    Texts are whole lines. What comes while `WAITING_CHARS` wait already, and what `write` failed with, is left out;
    `notice` makes a line of how many lines that were, and it stands before what is written next. The thread ends by
    itself when there is nothing to do, so nobody owns or closes it; at the end of the process it has `FLUSH_S`.
    """

    def __init__(self, write: Callable[[P, str], None], notice: Callable[[int], str]) -> None:
        self._write = write
        self._notice = notice
        self._changed = threading.Condition()
        self._waiting: deque[tuple[P, str]] = deque()
        self._chars = 0
        self._lost: Counter[P] = Counter()
        self._untold: dict[P, None] = {}
        self._running = False
        self._writing = False
        self._registered = False

    def put(self, place: P, text: str) -> None:
        """Have `text` written to `place`; never blocks, never raises. From any thread."""
        with self._changed:
            if self._chars + len(text) > WAITING_CHARS:
                self._lost[place] += text.count("\n")
                self._untold[place] = None
                return
            self._waiting.append((place, text))
            self._chars += len(text)
            self._wake()

    def flush(self, timeout_s: float = FLUSH_S) -> bool:
        """Wait until everything is written, at most so long; whether it is."""
        with self._changed:
            if self._waiting:
                self._wake()
            return self._changed.wait_for(self._is_idle, timeout_s if self._running else 0)

    def _is_idle(self) -> bool:
        return not (self._waiting or self._untold or self._writing)

    def _wake(self) -> None:
        if self._running:
            self._changed.notify_all()
            return
        if not self._registered:
            self._registered = True
            atexit.register(self.flush)
        try:
            threading.Thread(target=self._run, name="log", daemon=True).start()
            self._running = True
        except RuntimeError:
            pass  # no thread to be had now: the next text asks for one again

    def _run(self) -> None:
        while (job := self._next()) is not None:
            place, text, lost = job
            try:
                self._write(place, self._notice(lost) + text if lost else text)
            except Exception:
                with self._changed:
                    self._lost[place] += lost + text.count("\n")

    def _next(self) -> tuple[P, str, int] | None:
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._waiting or self._untold, _LINGER_S):
                self._running = False
                return None
            if self._waiting:
                place, text = self._waiting.popleft()
                self._chars -= len(text)
            else:
                place, text = next(iter(self._untold)), ""
            self._untold.pop(place, None)
            self._writing = True
            return place, text, self._lost.pop(place, 0)
