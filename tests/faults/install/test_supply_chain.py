"""What may come with a package and what may not: FAULTS E12, S9, S10."""

import asyncio
import os
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.environments import ROOTS
from support.package_index import PackageIndex, serving
from support.stores import (
    Watched,
    built,
    hermetic,
    open_store,
    verified,
    wheel_of_installed,
    write_wheel,
    write_worker,
)
from support.waiting import bounded

from waifu_llm.catalog import Manifest
from waifu_llm.config import UvSettings
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.uv import OLDEST
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home

_PTH = (
    b"import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
    b"enabled and __import__('_distutils_hack').add_shim(); \n"
)
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
posix = pytest.mark.skipif(sys.platform == "win32", reason="these are the paths of POSIX")


class Shop:
    """An index's worth of wheels, and workers that need some of them."""

    def __init__(self, folder: Path) -> None:
        self.wheels = folder / "own-wheels"
        self.wheels.mkdir()
        self._folder = folder

    def worker(self, files: Mapping[str, bytes], package: str = "dep") -> Manifest:
        """One that needs a package of these files."""
        lock = wheel_of_installed(self.wheels, "msgspec") + write_wheel(self.wheels, package, "1.0", files)
        return write_worker(self._folder / "shop", "tiny", lock)

    def environ(self) -> dict[str, str]:
        return hermetic(self.wheels, self._folder / "own-cache")


@pytest.fixture
def shop(tmp_path: Path, home: Path) -> Shop:
    return Shop(tmp_path)


async def refused(store: EnvironmentStore, manifest: Manifest) -> str:
    """The sentence with which an install fails; nothing of it may be left."""
    async with bounded():
        with pytest.raises(InstallFailed) as caught:
            await store.ensure(manifest)
        await store.close()
    assert list(store.status(manifest).folder.parent.iterdir()) == []
    return caught.value.message


@posix
@pytest.mark.parametrize(
    "path",
    [
        "dep_init.pth",
        "distutils-precedence.pth",
        "_virtualenv.pth",
        "DEP.PTH",
        "dep.start",
        "sitecustomize.py",
        "sitecustomize/__init__.py",
        "sitecustomize.cpython-311-x86_64-linux-gnu.so",
        "SiteCustomize.py",
        "usercustomize.py",
        "usercustomize.pyc",
        "dep-1.0.data/data/dep.pth",
        f"dep-1.0.data/data/lib/{_PYTHON}/dist-packages/dep.pth",
        f"dep-1.0.data/data/lib64/{_PYTHON}/site-packages/dep.pth",
        f"dep-1.0.data/data/local/lib/{_PYTHON}/dist-packages/sitecustomize.py",
        "dep-1.0.data/data/pyvenv.cfg",
        "dep-1.0.data/data/bin/pyvenv.cfg",
        "dep-1.0.data/scripts/pybuilddir.txt",
        "dep-1.0.data/scripts/python",
        f"dep-1.0.data/data/bin/{_PYTHON}",
        "dep-1.0.data/scripts/python._pth",
    ],
)
async def test_e12_s9_what_would_run_at_every_start_of_python_is_refused_and_never_runs(
    path: str, shop: Shop, run: Watched, home: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "it-ran"
    manifest = shop.worker({path: f"import pathlib; pathlib.Path({str(proof)!r}).touch()\n".encode()})
    message = await refused(open_store(home, run, shop.environ()), manifest)
    name = path.rpartition("/")[2]
    # Two of them uv itself refuses.
    assert name in message or "sitecustomize" in message
    assert not [command for command in run.commands if "-I" in command], "no Python of it was started"
    assert not proof.exists()


async def test_e12_the_pth_of_setuptools_passes_with_setuptools_alone(shop: Shop, run: Watched, home: Path) -> None:
    files = {"distutils-precedence.pth": _PTH, "_distutils_hack/__init__.py": b"def add_shim():\n    pass\n"}
    foreign = shop.worker(files)
    assert "distutils-precedence.pth" in await refused(open_store(home, run, shop.environ()), foreign)
    own = write_worker(
        shop.wheels.parent / "more",
        "tiny",
        wheel_of_installed(shop.wheels, "msgspec") + write_wheel(shop.wheels, "setuptools", "80.0", files),
    )
    store = open_store(home, run, shop.environ())
    environment = await built(store, own)
    await store.close()
    verified(environment.folder)


async def test_e12_another_content_of_that_pth_is_refused_whoever_brings_it(
    shop: Shop, run: Watched, home: Path
) -> None:
    files = {"distutils-precedence.pth": _PTH + b"#", "_distutils_hack/__init__.py": b""}
    manifest = shop.worker(files, "setuptools")
    assert "distutils-precedence.pth" in await refused(open_store(home, run, shop.environ()), manifest)


async def test_e12_python_is_looked_at_before_a_second_step_asks_it(
    shop: Shop, run: Watched, home: Path, tmp_path: Path
) -> None:
    """The step for what has no hash runs the environment's own Python."""
    lock = wheel_of_installed(shop.wheels, "msgspec") + write_wheel(shop.wheels, "dep", "1.0", {"evil.pth": b""})
    manifest = write_worker(tmp_path / "shop", "local", lock, more='unhashed = ["heavy==2.13.0"]')
    assert "evil.pth" in await refused(open_store(home, run, shop.environ()), manifest)
    assert run.count("install") == 0


async def test_e12_a_release_that_was_yanked_after_it_was_locked_is_still_the_locked_one(
    shop: Shop, run: Watched, home: Path, tmp_path: Path
) -> None:
    """An exact pin asks for it (PEP 592); that it is the locked file is what its hash says."""
    manifest = shop.worker({"dep.py": b"good = True\n"})
    with serving(PackageIndex(shop.wheels, yanked={"1.0"})) as index:
        environ = {**os.environ, "UV_DEFAULT_INDEX": index.simple, "UV_CACHE_DIR": str(tmp_path / "cache")}
        store = open_store(home, run, environ)
        environment = await built(store, manifest)
        await store.close()
    verified(environment.folder)


@pytest.mark.parametrize("first", ["foreign", "own"])
async def test_s10_the_first_index_that_knows_a_name_answers_for_it(
    first: str, shop: Shop, run: Watched, home: Path, tmp_path: Path
) -> None:
    """No better version and no right hash elsewhere makes uv look at the next one."""
    manifest = shop.worker({"dep.py": b"good = True\n"})
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for version in ("1.0", "99.0"):
        write_wheel(foreign, "dep", version, {"dep.py": b"good = False\n"})
    with serving(PackageIndex(shop.wheels)) as good, serving(PackageIndex(foreign)) as evil:
        order = (evil, good) if first == "foreign" else (good, evil)
        environ = {**os.environ, "UV_CACHE_DIR": str(tmp_path / "cache"), "UV_HTTP_RETRIES": "0"}
        # uv asks the indexes of UV_INDEX before the default one.
        environ |= {"UV_INDEX": order[0].simple, "UV_DEFAULT_INDEX": order[1].simple}
        store = EnvironmentStore(Home(home), UvSettings(), run, environ, 60.0)
        if first == "foreign":
            assert "dep" in await refused(store, manifest)
        else:
            verified((await built(store, manifest)).folder)
            await store.close()
            assert not [path for path in evil.asked if "dep" in path], "a name that is known is asked nowhere else"


def test_s9_every_lock_has_a_hash_for_every_package_and_no_address() -> None:
    for file in (file for root in ROOTS for file in root.glob("*/requirements.lock")):
        lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
        pins = [place for place, line in enumerate(lines) if not line.startswith(" ")]
        assert pins, file
        for place in pins:
            assert re.match(r"[a-z0-9.\-]+==[^ ]+( ; .+)? \\$", lines[place]), lines[place]
            assert re.match(r"    --hash=sha256:[0-9a-f]{64}( \\)?$", lines[place + 1]), lines[place + 1]
        assert "://" not in "".join(lines)


def test_s9_torch_alone_has_no_hash() -> None:
    """Its build differs from machine to machine; whoever adds another one argues for it here."""
    declared: dict[str, list[str]] = {}
    for file in (file for root in ROOTS for file in root.glob("*/pyproject.toml")):
        pins = tomllib.loads(file.read_text())["tool"]["waifu-llm"].get("unhashed", [])
        declared |= {file.parent.name: [pin.partition("==")[0] for pin in pins]} if pins else {}
    assert declared == {"hf_local": ["torch"]}


async def test_s11_a_uv_with_known_holes_is_refused_before_it_does_anything(
    shop: Shop, run: Watched, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "uv"
    old.write_text(f"#!/bin/sh\necho uv {OLDEST[0]}.{OLDEST[1]}.{OLDEST[2] - 1}\n")
    old.chmod(0o700)
    monkeypatch.setattr("waifu_llm.environment.uv.find_uv", lambda: str(old))
    message = await refused(open_store(home, run, shop.environ()), shop.worker({}))
    assert "too old to be safe" in message
    assert run.commands == [[str(old), "--version"]]
    assert asyncio.all_tasks() == {asyncio.current_task()}
