"""A pool whose processes are in memory."""

from support.pool_fixtures import bench, make_bench

__all__ = ["bench", "make_bench"]
