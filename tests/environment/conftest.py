"""Wheels for all tests of this folder, and stores over real processes."""

from support.store_fixtures import cache, environ, lock, msgspec_wheel, run, store, tiny

__all__ = ["cache", "environ", "lock", "msgspec_wheel", "run", "store", "tiny"]
