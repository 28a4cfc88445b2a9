"""What was said between one client and each personality, as far as it is kept. Pure."""

from collections import deque
from typing import Final

import msgspec

MOST_TURNS: Final = 200  # per personality
MOST_CHARACTERS: Final = 1024 * 1024  # of one client, all personalities together
_TURN_COSTS: Final = 256  # what a turn counts beside its text, so that a million empty ones are bounded too


class Turn(msgspec.Struct, frozen=True):
    """What the user said, and the answer as far as it came."""

    user: str
    answer: str


class Histories:
    """One client's turns, per personality; at most 200 each, and a mebi of characters together.

    A turn counts as its characters and 256 more. The oldest ones leave first: of the personality whose 200 are full,
    of all where the characters are. One that is too large by itself leaves with all before it.
    """

    def __init__(self) -> None:
        self._turns: dict[str, deque[Turn]] = {}
        self._order: deque[str] = deque()  # whose each turn is, in the order they were said
        self._characters = 0

    def turns(self, key: str) -> tuple[Turn, ...]:
        """What was said with this personality, the oldest turn first."""
        return tuple(self._turns.get(key, ()))

    def add(self, key: str, turn: Turn, *, failed: bool = False) -> None:
        """Remember a turn that is over, a cancelled one with the answer that came; a failed one without any leaves."""
        if failed and not turn.answer:
            return
        if _cost(turn) > MOST_CHARACTERS:
            # It cannot stay, and what came before it must not seem to be the last word.
            while key in self._turns:
                self._drop_oldest(key)
            return
        self._turns.setdefault(key, deque()).append(turn)
        self._order.append(key)
        self._characters += _cost(turn)
        if len(self._turns[key]) > MOST_TURNS:
            self._drop_oldest(key)
        while self._characters > MOST_CHARACTERS:
            self._drop_oldest(self._order[0])

    def _drop_oldest(self, key: str) -> None:
        turns = self._turns[key]
        self._characters -= _cost(turns.popleft())
        self._order.remove(key)
        if not turns:
            del self._turns[key]


def _cost(turn: Turn) -> int:
    return _TURN_COSTS + len(turn.user) + len(turn.answer)
