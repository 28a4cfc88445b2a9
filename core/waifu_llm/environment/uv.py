"""uv's command lines and the closed environment that it runs with. Runs nothing."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from waifu_llm.config import UvSettings
from waifu_llm.errors import InstallFailed

# Below it uv has known holes (CVE-2026-114109: entry-point names that write outside the environment).
OLDEST: Final = (0, 11, 15)

_BASIC: Final = frozenset(
    "PATH HOME LANG LC_ALL TMPDIR TEMP TMP XDG_CACHE_HOME XDG_DATA_HOME NETRC "
    "SSL_CERT_FILE SSL_CERT_DIR SSL_CLIENT_CERT "
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy "
    "SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERPROFILE APPDATA LOCALAPPDATA PROGRAMDATA".split()
)
_INDEXES: Final = frozenset({"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_NO_INDEX"})
_CHOICES: Final = _INDEXES | frozenset(
    "UV_FIND_LINKS UV_TORCH_BACKEND UV_CACHE_DIR UV_NO_CACHE UV_LINK_MODE UV_OFFLINE UV_SYSTEM_CERTS UV_NATIVE_TLS "
    "UV_INSECURE_HOST UV_HTTP_TIMEOUT UV_HTTP_RETRIES UV_KEYRING_PROVIDER "
    "UV_CONCURRENT_DOWNLOADS UV_CONCURRENT_INSTALLS".split()
)
_INDEX_LOGIN: Final = re.compile(r"UV_INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD)")
_PICKS_TORCH: Final = ("UV_FIND_LINKS", "UV_INDEX", "UV_DEFAULT_INDEX", "UV_TORCH_BACKEND")
_VERSION: Final = re.compile(r"uv (\d+)\.(\d+)\.(\d+)")
# Wheels only, so that no package's own code runs in an install; one index answers for a name.
_SAFELY: Final = ("--only-binary", ":all:", "--index-strategy", "first-index")


def find_uv() -> str:
    """The uv that came as our dependency. Raises: InstallFailed."""
    try:
        import uv

        return uv.find_uv_bin()
    except (ImportError, FileNotFoundError) as error:
        raise InstallFailed(f"there is no uv ({error}); run: python -m pip install 'uv>=0.11.15'"[:300]) from error


def checked_version(output: str) -> str:
    """The version in what `uv --version` wrote. Raises: InstallFailed where it is too old or none."""
    match = _VERSION.match(output)
    if match is None:
        raise InstallFailed(f"uv does not say its version ({output.strip()[:80]!r}); install it again")
    version = ".".join(match.groups())
    if tuple(map(int, match.groups())) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise InstallFailed(f"uv {version} is too old to be safe; run: python -m pip install 'uv>={oldest}'")
    return version


def basic_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What any program needs to run here, nothing of Python's or ours, and nobody's keys."""
    kept = {name: value for name, value in environ.items() if name in _BASIC}
    return {"LANG": "C.UTF-8", **kept}


def uv_environment(environ: Mapping[str, str], settings: UvSettings) -> dict[str, str]:
    """The environment of every uv: a closed list. A configured index replaces those of the variables.

    The index goes here and not into argv, since its address may hold a password.
    """
    allowed = _CHOICES - _INDEXES if settings.index else _CHOICES
    env = basic_environment(environ)
    env |= {name: value for name, value in environ.items() if name in allowed or _INDEX_LOGIN.fullmatch(name)}
    if settings.index:
        env["UV_DEFAULT_INDEX"] = settings.index
    if settings.find_links:
        env["UV_FIND_LINKS"] = settings.find_links
    # Without them uv reads settings of any project it stands in, and downloads a Python where ours does not suit it.
    return {**env, "UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}


def venv_command(uv: str, folder: Path, base_python: str) -> list[str]:
    """Make an empty environment in `folder`, in place of what is there."""
    return [uv, "venv", "--relocatable", "--clear", "--no-project", "--python", base_python, str(folder)]


def sync_command(uv: str, python: Path, lock: Path, *, offline: bool) -> list[str]:
    """Install exactly what the lock says, every file's hash checked."""
    command = [uv, "pip", "sync", "--python", str(python), "--require-hashes", *_SAFELY]
    return [*command, *(["--offline"] if offline else []), str(lock)]


def unhashed_commands(
    uv: str, python: Path, pins: Sequence[str], lock: Path, env: Mapping[str, str]
) -> Iterator[list[str]]:
    """Install, after the sync, what has another build per machine; the lock's versions bind what it brings in.

    Each command is to be tried where the one before it failed. Where nobody says from where torch comes, uv looks
    at the machine and then needs the network; else what is in the folder and in uv's cache is tried first.
    """
    command = [uv, "pip", "install", "--python", str(python), *_SAFELY, "--constraints", str(lock)]
    if any(env.get(name) for name in _PICKS_TORCH):
        yield [*command, "--offline", *pins]
        yield [*command, *pins]
    else:
        yield [*command, "--torch-backend", "auto", *pins]


def python_of(folder: Path, platform: str) -> Path:
    """The interpreter in an environment; `platform` as sys.platform says it."""
    return folder / "Scripts" / "python.exe" if platform == "win32" else folder / "bin" / "python"
