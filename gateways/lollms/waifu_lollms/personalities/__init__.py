"""Personalities: what their files say, where they lie, and which of them ship with the gateway."""
