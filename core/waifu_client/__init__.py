"""What a client author uses: websockets and msgspec, nothing of the core."""
