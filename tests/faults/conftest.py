"""What every test of the catalogue of faults has: a census (I6)."""

import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pytest

P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture(autouse=True)
def census(request: pytest.FixtureRequest, no_leaks: None, no_temporary_files: None) -> None:
    """After the test there are as many descriptors, children, threads, tasks and temporary files as before it."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_tasks_left")


@pytest.fixture
def weighed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """For modules in memory, of which thousands live in a test: their workers, which are none, are weighed without a
    thread for each look.
    """

    async def here(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return work(*args, **kwargs)

    monkeypatch.setattr("waifu_llm.supervision.scales.in_thread", here)
