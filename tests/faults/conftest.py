"""What every test of the catalogue of faults has: a census (I6)."""

import inspect

import pytest


@pytest.fixture(autouse=True)
def census(request: pytest.FixtureRequest, no_leaks: None, no_temporary_files: None) -> None:
    """After the test there are as many descriptors, children, threads, tasks and temporary files as before it."""
    if inspect.iscoroutinefunction(request.function):
        request.getfixturevalue("no_tasks_left")
