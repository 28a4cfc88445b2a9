"""The module: a thin core between WebSocket clients and isolated provider workers."""

__version__ = "0.1.0"
