"""Where everything lives: one home folder, moved as a whole by WAIFU_LLM_HOME."""

from collections.abc import Mapping
from pathlib import Path

import msgspec


class Home(msgspec.Struct, frozen=True):
    """The folders and files of one home; nothing is created by asking."""

    root: Path

    @classmethod
    def find(cls, environ: Mapping[str, str]) -> "Home":
        """WAIFU_LLM_HOME, else the platform's user data folder."""
        chosen = environ.get("WAIFU_LLM_HOME")
        return cls((Path(chosen).expanduser() if chosen else _user_data()).absolute())

    @property
    def config_file(self) -> Path:
        """The one commented config file."""
        return self.root / "waifu-llm.toml"

    @property
    def keys_file(self) -> Path:
        """The stored keys, readable by the owner alone."""
        return self.root / "keys.json"

    @property
    def last_provider_file(self) -> Path:
        """The name of the provider that was loaded last, for the next start."""
        return self.root / "last-provider"

    @property
    def envs(self) -> Path:
        """Finished environments; builds under way are `.tmp-…` folders beside them."""
        return self.root / "envs"

    @property
    def locks(self) -> Path:
        """One lock file per environment."""
        return self.root / "locks"

    @property
    def seed(self) -> Path:
        """Our own code as workers run it, one folder per digest."""
        return self.root / "seed"

    @property
    def logs(self) -> Path:
        """`<worker>.log` and the core's own `waifu-llm.log`."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """`<pid>.json` of each running module."""
        return self.root / "run"

    @property
    def data(self) -> Path:
        """One folder per gateway."""
        return self.root / "data"


def _user_data() -> Path:
    import platformdirs  # late: whoever says where it is needs none

    return platformdirs.user_data_path("waifu-llm", appauthor=False)


def absolute(path: str, base: Path) -> str:
    """`path` from `base`, where it is a relative one; `~` is a home folder, or a mere name where nobody has it."""
    try:
        return str(base / Path(path).expanduser())
    except RuntimeError:
        return str(base / path)
