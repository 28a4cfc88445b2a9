"""The Provider classes of the workers, for tests that drive them in-process."""

import importlib
from pathlib import Path
from typing import Final

from waifu_worker.provider import Provider

WORKERS: Final = Path(__file__).resolve().parents[2] / "workers"


def provider_class(name: str) -> type[Provider]:
    """The Provider of `workers/<name>`; what its own environment holds is installed here too."""
    found: object = importlib.import_module(f"waifu_{name}").Provider
    assert isinstance(found, type)
    assert issubclass(found, Provider)
    return found
