"""A gateway that misbehaves on demand. The option `does` says how, the option `times` how many starts do that.

- `serve`: listens on 127.0.0.1 and answers each line of JSON with one, see `serving`.
- `die`: exits with 3 at its start. `die-after-ready`. `raise`: an exception at its start.
- `hang`: is never ready. `hang-at-end`: serves, and does not end what it serves.
- `wrong-magic`, `wrong-wire`, `wrong-name`, `no-address`, `no-url`: greets so.
- `failed`: cannot serve, and says so. `failed-late`: says so after it was ready. `failed-secret`: with its token in it.
- `stop` (SIGSTOP), `hold` (holds the interpreter), `garbage` (lines that are no messages), `line` (one too long): once
  it is ready.
- `say`: its token goes to stderr, then it serves.
- `deaf`: serves, and ignores SIGTERM and the end of its input.
"""

from typing import NoReturn

from waifu_worker.stdio import Pipes


def run(pipes: Pipes, name: str) -> NoReturn:
    """Be the gateway."""
    from waifu_fake_gateway.life import live

    live(pipes, name)


__all__ = ["run"]
