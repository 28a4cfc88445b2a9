"""Runs a target on inputs that hypothesis makes of its seeds. A crash becomes a seed, which the tests replay."""

import hashlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import FrameType
from typing import Final

import psutil
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.waiting import FACTOR

SEEDS: Final = Path(__file__).resolve().parents[2] / "fuzz" / "seeds"
_SLOWEST_S: Final = 1.0 * FACTOR
_HANGS_S: Final = 20.0 * FACTOR
_BATCH: Final = 100
_VARIANTS: Final = 50
_LENGTHS: Final = (0, 0, 1, 2, 8, 64)
_LONGEST: Final = 4000
_MOST_CHANGES: Final = 6


class Slow(AssertionError):
    """One input took longer than any may."""


@dataclass(frozen=True)
class Target:
    """What is fuzzed. `check` gets any bytes and raises where a promise is broken; `words` are put into the inputs.

    `is_audited`: it listens to what is opened, so that tests run it in a process of its own (support/audited.py).
    """

    name: str
    check: Callable[[bytes], None]
    words: tuple[bytes, ...]
    is_audited: bool = False

    @property
    def seeds(self) -> dict[str, bytes]:
        """The inputs that are kept, by file name."""
        return {path.name: path.read_bytes() for path in sorted((SEEDS / self.name).iterdir())}


@dataclass
class Result:
    """`crash`: the smallest input found that breaks a promise, and why."""

    runs: int = 0
    seconds: float = 0.0
    memory_mb: float = 0.0
    crash: tuple[bytes, BaseException] | None = None


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds with changes, words of the target in any order, any bytes."""
    kept = sorted(target.seeds.values())
    word = st.sampled_from(sorted(target.words)) | st.binary(max_size=8)
    anything = st.lists(word, max_size=40).map(b"".join)
    return st.builds(_changed, st.sampled_from(kept), st.lists(_changes(word), max_size=_MOST_CHANGES)) | anything


_Change = tuple[int, int, bytes]


def _changes(word: st.SearchStrategy[bytes]) -> st.SearchStrategy[_Change]:
    return st.tuples(st.integers(0, _LONGEST), st.sampled_from(_LENGTHS), word)


def _changed(seed: bytes, changes: list[_Change]) -> bytes:
    """Each change replaces some bytes at a place by a word."""
    for place, length, word in changes:
        at = place % (len(seed) + 1)
        seed = seed[:at] + word + seed[at + length :]
    return seed[:_LONGEST]


def run(target: Target, seconds: float) -> Result:
    """As many inputs as fit the time; ends at the first crash.

    hypothesis makes inputs of structure; many cheap variants of each of them follow.
    """
    result, began = Result(), time.monotonic()
    failing: list[bytes] = []
    made: list[bytes] = []
    rng = Random()

    @settings(
        max_examples=_BATCH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(inputs(target))
    def batch(data: bytes) -> None:
        result.runs += 1
        made.append(data)
        try:
            attempt(target, data)
        except BaseException:
            failing.append(data)
            raise

    while result.crash is None and time.monotonic() - began < seconds:
        made.clear()
        try:
            batch()
        except Exception as error:
            result.crash = (_smaller(target, failing[-1], type(error)), error)
        else:
            _try_variants(target, [*made, *target.seeds.values()], rng, result, began + seconds)
    result.seconds = time.monotonic() - began
    result.memory_mb = psutil.Process().memory_info().rss / 2**20
    return result


def _try_variants(target: Target, made: list[bytes], rng: Random, result: Result, end: float) -> None:
    words = [*target.words, *(bytes((byte,)) for byte in range(256))]
    for data in made:
        if time.monotonic() > end:
            return
        for _ in range(_VARIANTS):
            places = [
                (rng.randint(0, _LONGEST), rng.choice(_LENGTHS), rng.choice(words)) for _ in range(rng.randint(1, 4))
            ]
            variant = _changed(data, places)
            result.runs += 1
            try:
                attempt(target, variant)
            except Exception as error:
                result.crash = (_smaller(target, variant, type(error)), error)
                return


def _smaller(target: Target, data: bytes, kind: type[Exception]) -> bytes:
    """What is left of it when everything is taken out without which it still breaks in the same way."""
    length = len(data) // 2
    while length:
        for start in range(0, len(data), length):
            shorter = data[:start] + data[start + length :]
            try:
                attempt(target, shorter)
            except kind:
                data = shorter
                break
            except Exception:  # it breaks in another way, which is for another run
                continue
        else:
            length //= 2
    return data


def attempt(target: Target, data: bytes) -> None:
    """One input. Raises: Slow, and whatever the check raises."""
    began = time.process_time()
    with _no_hang() if sys.platform != "win32" else nullcontext():
        target.check(data)
    taken = time.process_time() - began
    if taken > _SLOWEST_S:
        raise Slow(f"{target.name} took {taken:.1f} s for {len(data)} bytes")


def keep(target: Target, data: bytes) -> Path:
    """Make an input a seed."""
    path = SEEDS / target.name / f"crash-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


@contextmanager
def _no_hang() -> Iterator[None]:
    def hangs(number: int, frame: FrameType | None) -> None:
        raise Slow(f"an input took more than {_HANGS_S} s")

    # The other alarm is pytest's own.
    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, _HANGS_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
