"""The program that downloads one model: its order comes as JSON on the input, lines of JSON go out.

Runs as `python -I pull_program.py`, beside nothing of ours; needs only huggingface_hub.
"""

import errno
import json
import sys
import time
import traceback
from typing import Any, Final

_ALWAYS: Final = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken")
_INTERVAL_S: Final = 0.2
_OUT: Final = sys.stdout


class Bar:
    """What huggingface_hub takes for a progress bar; the one that counts bytes says so on a line."""

    _told = 0.0

    def __init__(self, *args: Any, total: float | None = None, initial: float = 0, **named: Any) -> None:
        self.total = total
        self.n = initial
        self._items = args[0] if args else named.get("iterable")
        # Of the two that count bytes the one of what was written: the other one leaves out what was there before.
        self._counts = named.get("unit") == "B" and not str(named.get("name")).endswith(".transfer")

    def update(self, n: float | None = 1) -> None:
        """`n` more."""
        self.n += n or 0
        if self._counts and time.monotonic() >= Bar._told + _INTERVAL_S:
            Bar._told = time.monotonic()
            say(type="step", done=int(self.n), total=int(self.total or 0))

    def __iter__(self) -> Any:
        for item in self._items or ():
            yield item
            self.update()

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getattr__(self, _: str) -> Any:
        # refresh, close, set_description and all else that only a picture needs
        return lambda *_args, **_named: None

    @classmethod
    def get_lock(cls) -> Any:
        """As tqdm has it."""
        return _NoLock()

    @classmethod
    def set_lock(cls, _: Any) -> None:
        """As tqdm has it."""


class _NoLock:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


def say(**line: object) -> None:
    """One line out, at once."""
    _OUT.write(json.dumps(line) + "\n")
    _OUT.flush()


def wanted_files(names: list[str]) -> list[str]:
    """The patterns of what is needed: of the weights those in safetensors, where there are such."""
    top = [name for name in names if "/" not in name]
    for pattern in ("model*.safetensors", "pytorch_model*.bin"):
        start, _, end = pattern.partition("*")
        if any(name.startswith(start) and name.endswith(end) for name in top):
            return [*_ALWAYS, pattern]
    return []


def download(model: str, cache: str, token: str | None) -> None:
    """Raises: whatever huggingface_hub raises; ValueError where there is nothing to load."""
    from huggingface_hub import HfApi, snapshot_download

    names = HfApi().list_repo_files(model, token=token)
    patterns = wanted_files(names)
    if not patterns:
        raise ValueError(model)
    snapshot_download(  # nosec B615 # the user names a model; only weights and JSON are read of it, no code
        model,
        cache_dir=cache,
        token=token,
        allow_patterns=patterns,
        ignore_patterns=["*/*"],
        tqdm_class=Bar,  # type: ignore[arg-type, unused-ignore]  # only the methods count
    )


def outcome_of(error: Exception) -> tuple[str, int | None]:
    """What the error means, in the words of `pulling`, and the status of the answer it came with."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    kinds = {kind.__name__ for kind in type(error).__mro__}
    for kind, outcome in (
        ("GatedRepoError", "gated"),
        ("RepositoryNotFoundError", "missing"),
        ("HFValidationError", "missing"),
        ("LocalEntryNotFoundError", "unreachable"),
    ):
        if kind in kinds:
            return outcome, status
    if status in (401, 403):
        return "unauthorized", status
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full", None
    if status is None and kinds & {"TransportError", "ConnectionError", "TimeoutError"}:
        return "unreachable", None
    return ("useless" if type(error) is ValueError else "otherwise"), status


def main() -> None:
    """Read the order, download, say how it ended."""
    order = json.load(sys.stdin)
    # Whatever a library prints belongs into the log.
    sys.stdout = sys.stderr
    try:
        download(order["model"], order["cache"], order["token"])
    except Exception as error:
        outcome, status = outcome_of(error)
        if outcome == "otherwise":
            traceback.print_exc()
        detail = str(error).strip().partition("\n")[0][:200]
        say(type="ended", outcome=outcome, detail=f"{type(error).__name__}: {detail}", status=status)
    else:
        say(type="ended", outcome="done")


if __name__ == "__main__":
    main()
