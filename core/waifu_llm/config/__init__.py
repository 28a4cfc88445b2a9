"""Frozen settings: flag > environment > file > default, resolved once at start."""

from waifu_llm.config.resolve import Resolved, flags_from, resolve
from waifu_llm.config.settings import (
    LimitSettings,
    LogSettings,
    ServerSettings,
    Settings,
    UvSettings,
    WorkerSettings,
)
from waifu_llm.config.tables import TableFlags

__all__ = [
    "LimitSettings",
    "LogSettings",
    "Resolved",
    "ServerSettings",
    "Settings",
    "TableFlags",
    "UvSettings",
    "WorkerSettings",
    "flags_from",
    "resolve",
]
