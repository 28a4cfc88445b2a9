"""The environment variables a worker's process may see: an allow-list, so that no provider sees another's key. Pure."""

from collections.abc import Mapping
from typing import Final

from waifu_llm.catalog import Declaration

_PASSED: Final = frozenset(
    {
        # who and where the user is
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP",
        # how to reach the network
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
        # what a GPU's libraries need
        "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
        # what Windows programs cannot start without
        "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "USERPROFILE", "APPDATA", "LOCALAPPDATA",
        "PROGRAMDATA", "NUMBER_OF_PROCESSORS",
    }
)  # fmt: skip
_PREFIXES: Final = ("LC_", "XDG_")


def worker_environ(declared: Declaration, environ: Mapping[str, str]) -> dict[str, str]:
    """What the worker of this manifest may see: the list above and the variables it declares, never a key."""
    keys = set(declared.key.env)
    return {
        name: value
        for name, value in environ.items()
        if (name in _PASSED or name in declared.env or name.startswith(_PREFIXES)) and name not in keys
    }
