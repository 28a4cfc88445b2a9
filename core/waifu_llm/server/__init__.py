"""The WebSocket shell around sessions: sockets in, one reader and one writer per connection."""

from waifu_llm.server.server import Server

__all__ = ["Server"]
