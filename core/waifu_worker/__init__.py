"""What a worker author uses: standard library and msgspec, nothing of the core."""
