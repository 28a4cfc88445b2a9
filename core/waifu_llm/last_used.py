"""`<home>/last-provider`: the name of the provider that was loaded last, and nothing else of that load."""

from waifu_llm.paths import Home
from waifu_llm.private_files import make_private_folder, read_private, write_private


class LastUsed:
    """Remembered across restarts. Its methods touch the disk, and raise PrivateFileError."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def read(self) -> str | None:
        """Its name as it was written down; None where nothing was."""
        found = read_private(self._home.last_provider_file) or b""
        return found.decode("utf-8", "replace").strip() or None

    def write(self, name: str) -> None:
        """From now on it is `name`."""
        make_private_folder(self._home.root)
        write_private(self._home.last_provider_file, f"{name}\n".encode(), durable=False)
