"""What the clients of a chaos run ask for: answers that must be exact, and failures that must be told as such."""

from collections.abc import Callable
from random import Random
from typing import Final

from fakes.upstream.openai_api import GOOD_KEY
from fakes.upstream.scenario import SAYINGS
from support.chaos.ledger import Plan

CANARY: Final = "canary-7d1f0a52c34b4bd8"
PROVIDERS: Final = ("echo", "fake", "garbler", "openai", "victim")
CANARIES: Final = (CANARY, GOOD_KEY)
_MODEL: Final = "gpt-4o-mini"
_WORDS: Final = ("ein", "deux", "три", "四", "five", "\U0001f600", "\u202eback", "\tsix\n")


def _counted(count: int) -> str:
    return "".join(f"{number} " for number in range(count))


def _sentence(rng: Random) -> str:
    return " ".join(rng.choices(_WORDS, k=rng.randint(1, 60))).strip() + "."


def _echo(rng: Random) -> Plan:
    text = _sentence(rng)
    return Plan("echo", "echo", text, text)


def _echo_of_fake(rng: Random) -> Plan:
    text = _sentence(rng)
    return Plan("fake", "echo", text, text)


def _count(rng: Random) -> Plan:
    count = rng.choice((0, 1, 20, 300, 3000))
    return Plan("fake", f"count={count}", whole=_counted(count))


def _size(rng: Random) -> Plan:
    size = rng.choice((1, 65_536, 1_000_000))
    return Plan("fake", f"size={size}", whole="x" * size)


def _rubbish_on_stdout(rng: Random) -> Plan:
    count = rng.randint(1, 20)
    return Plan("garbler", f"{rng.choice(('garbage', 'bad-utf8', 'strangers'))}={count}", whole=_counted(count))


def _two_ends(rng: Random) -> Plan:
    return Plan("garbler", "two-ends")


def _flood_of_errors(rng: Random) -> Plan:
    text = _sentence(rng)
    return Plan("fake", "flood-stderr=1000000", text, text)


def _death(rng: Random) -> Plan:
    count = rng.choice((0, 1, 50))
    return Plan(
        "fake", f"{rng.choice(('exit', 'kill', 'segfault', 'truncate'))}={count}", whole=_counted(count), fails=True
    )


def _half_line(rng: Random) -> Plan:
    return Plan("garbler", rng.choice(("half-line", "line=20000000", "endless")), whole="", fails=True)


def _hang(rng: Random) -> Plan:
    count = rng.choice((0, 3))
    kind = rng.choice(("hang", "ignore-cancel", "spin"))
    return Plan("fake", f"{kind}={count}", whole=_counted(count), timeout_ms=300, fails=True)


def _error_of_provider(rng: Random) -> Plan:
    return Plan("fake", rng.choice(("fail=AUTHORIZATION/quota", "leak", "memory", "raise")), whole="", fails=True)


def _upstream(rng: Random) -> Plan:
    frame = rng.choice(("normal", "crlf", "escaped"))
    return Plan("openai", f"{_MODEL};frame={frame}", whole="".join(SAYINGS["words"]))


def _upstream_refuses(rng: Random) -> Plan:
    error = rng.choice(("rate-bare", "internal", "bad-gateway", "overloaded", "edge", "gateway-timeout"))
    return Plan("openai", f"{_MODEL};error={error}", whole="", timeout_ms=5_000, fails=True)


def _upstream_breaks(rng: Random) -> Plan:
    after = rng.randint(0, 6)
    failure = rng.choice(("cut", "close", "half-event", "broken-json", "error-event", "no-end", "endless-event"))
    whole = "".join(SAYINGS["words"][:after])
    return Plan("openai", f"{_MODEL};fail={failure};after={after}", whole=whole, timeout_ms=5_000, fails=True)


def _upstream_stalls(rng: Random) -> Plan:
    failure = rng.choice(("silent", "headers", "stall"))
    return Plan("openai", f"{_MODEL};fail={failure}", whole="Hello there", timeout_ms=400, fails=True)


_HEALTHY: Final[tuple[Callable[[Random], Plan], ...]] = (_echo, _echo, _echo_of_fake, _count, _count, _size, _upstream)
_SICK: Final[tuple[Callable[[Random], Plan], ...]] = (
    _rubbish_on_stdout,
    _two_ends,
    _flood_of_errors,
    _death,
    _half_line,
    _hang,
    _error_of_provider,
    _upstream_refuses,
    _upstream_breaks,
    _upstream_stalls,
)


def any_plan(rng: Random) -> Plan:
    """One of all: mostly healthy, since the sick ones end the worker of others too."""
    return rng.choice(_HEALTHY if rng.random() < 0.7 else _SICK)(rng)


def healthy_plan(rng: Random) -> Plan:
    """One that succeeds where nothing else goes wrong."""
    return rng.choice(_HEALTHY)(rng)


def load_fields(provider: str, upstream: str, rng: Random) -> dict[str, object]:
    """What a load of this provider says beside its name."""
    match provider:
        case "openai":
            return {"api_key": GOOD_KEY, "base_url": f"{upstream}/v1"}
        case "fake":
            return {"api_key": CANARY, "base_url": rng.choice(("http://one.example", "http://two.example"))}
        case _:
            return {}
