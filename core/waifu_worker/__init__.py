"""What a worker author uses: standard library and msgspec, nothing of the core."""

__version__ = "0.1.0"
