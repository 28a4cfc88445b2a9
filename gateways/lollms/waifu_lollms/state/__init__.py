"""What clients change for everybody, kept in lollms.yaml."""

from waifu_lollms.state.file import StateFile
from waifu_lollms.state.model import State, StateError

__all__ = ["State", "StateError", "StateFile"]
