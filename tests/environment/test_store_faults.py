"""What goes wrong in an install ends in one clear sentence, and never in half an environment."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.stores import (
    PROVIDER,
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
from waifu_llm.environment.build import Builder
from waifu_llm.environment.bytecode import PROGRAM as COMPILE
from waifu_llm.environment.model import BuildProgress, Completed, EnvironmentState
from waifu_llm.environment.sharing import locked, try_lock
from waifu_llm.environment.stamp import STAMP_FILE, recorded
from waifu_llm.environment.store import EnvironmentStore
from waifu_llm.environment.verify import site_packages
from waifu_llm.errors import InstallFailed
from waifu_llm.paths import Home


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def own_environ(wheels: Path, home: Path, tmp_path: Path) -> dict[str, str]:
    """Wheels and a cache of this test alone."""
    return hermetic(wheels, tmp_path / "cache")


async def refused(store: EnvironmentStore, manifest: Manifest) -> str:
    """The sentence with which an install fails; nothing of it may be left."""
    async with bounded():
        with pytest.raises(InstallFailed) as caught:
            await store.ensure(manifest)
        await store.close()
    message = caught.value.message
    assert len(message) <= 300 and "\n" not in message
    assert store.status(manifest).state in (EnvironmentState.MISSING, EnvironmentState.STALE)
    return message


async def test_a_tampered_wheel_is_refused(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    lock = wheel_of_installed(wheels, "msgspec") + write_wheel(wheels, "dep", "1.0", {"dep.py": b"good = True\n"})
    write_wheel(wheels, "dep", "1.0", {"dep.py": b"good = False\n"})
    manifest = write_worker(tmp_path / "workers", "tiny", lock)
    message = await refused(open_store(home, run, own_environ), manifest)
    assert "hash mismatch" in message and "dep" in message
    assert list((home / "envs").iterdir()) == []


async def test_a_pin_without_a_hash_is_refused(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    lock = wheel_of_installed(wheels, "msgspec").partition(" ")[0]
    manifest = write_worker(tmp_path / "workers", "tiny", lock)
    assert "hash" in await refused(open_store(home, run, own_environ), manifest)


async def test_a_source_distribution_is_refused_since_it_would_run_its_own_code(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    (wheels / "evil-1.0.tar.gz").write_bytes(b"never opened")
    manifest = write_worker(tmp_path / "workers", "tiny", f"evil==1.0 --hash=sha256:{'0' * 64}\n")
    assert "no fitting wheels" in await refused(open_store(home, run, own_environ), manifest)


async def test_an_unknown_pth_is_refused_before_any_python_of_it_runs(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    proof = tmp_path / "it-ran"
    evil = f"import pathlib; pathlib.Path({str(proof)!r}).touch()\n".encode()
    lock = wheel_of_installed(wheels, "msgspec") + write_wheel(wheels, "dep", "1.0", {"dep_init.pth": evil})
    manifest = write_worker(tmp_path / "workers", "tiny", lock)
    assert "dep_init.pth" in await refused(open_store(home, run, own_environ), manifest)
    assert not proof.exists()


async def test_a_file_that_is_not_as_its_record_says_is_found(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    """A spoiled cache of uv's: it links what it unpacked once, and does not look again."""
    lock = wheel_of_installed(wheels, "msgspec") + write_wheel(wheels, "dep", "1.0", {"dep.py": b"good = True\n"})
    manifest = write_worker(tmp_path / "workers", "tiny", lock)
    store = open_store(home, run, own_environ)
    async with bounded():
        environment = await built(store, manifest)
        verified(environment.folder)
        (site_packages(environment.folder) / "dep.py").write_bytes(b"good = None\n")
        await store.remove("tiny")
    message = await refused(store, manifest)
    assert "dep.py of dep" in message and "uv cache clean dep" in message


def test_a_missing_file_is_found(tmp_path: Path) -> None:
    site = site_packages(tmp_path)
    (site / "dep-1.0.dist-info").mkdir(parents=True)
    (site / "dep-1.0.dist-info" / "RECORD").write_text("dep.py,,\n")
    with pytest.raises(InstallFailed, match=r"dep\.py of dep"):
        verified(tmp_path)


async def test_a_worker_that_does_not_start_is_not_installed(
    store: EnvironmentStore, tmp_path: Path, lock: str
) -> None:
    manifest = write_worker(tmp_path / "workers", "tiny", lock, provider="import no_such_package\n")
    assert "No module named 'no_such_package'" in await refused(store, manifest)


@pytest.mark.parametrize(
    "answer", ["", "not json", '{"type":"ready","magic":"other","wire":2,"name":"tiny"}', "[" * 100_000]
)
async def test_what_does_not_say_ready_properly_is_no_worker(
    store: EnvironmentStore, tiny: Manifest, run: Watched, answer: str
) -> None:
    run.answer("-I", Completed(0, answer, "a last word"))
    assert "a last word" in await refused(store, tiny)


async def test_a_worker_that_hangs_at_its_start_is_not_installed(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    run.answer("-I", TimeoutError())
    assert "hangs" in await refused(store, tiny)


async def test_a_gateway_is_installed_where_it_can_be_imported(
    store: EnvironmentStore, tmp_path: Path, lock: str
) -> None:
    root = tmp_path / "gateways"
    good = write_worker(root, "good", lock, provider="import waifu_client.protocol\n", kind="gateway")
    bad = write_worker(root, "bad", lock + "# bad\n", provider="import no_such_package\n", kind="gateway")
    async with bounded():
        environment = await built(store, good)
    assert (environment.seed / "waifu_client").is_dir()
    assert "from waifu_good import run" in (environment.seed / "__main__.py").read_text()
    assert "no_such_package" in await refused(store, bad)


async def test_a_full_disk_is_said_as_such_with_the_bytes_needed(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    tail = "error: Failed to install: x.whl\n  cause: failed to copy file: No space left on device (os error 28)\n"
    run.answer("sync", Completed(2, "", tail))
    message = await refused(store, tiny)
    assert "disk is full" in message and "20000000 bytes" in message
    assert run.count("sync") == 1, "asking the index would not make room"


async def test_what_cannot_fit_is_refused_before_anything_is_run(
    store: EnvironmentStore, tmp_path: Path, lock: str, run: Watched
) -> None:
    manifest = write_worker(tmp_path / "workers", "huge", lock, more="download_mb = 1e9")
    assert "disk is full" in await refused(store, manifest)
    assert run.commands == []


def test_an_estimate_tells_what_an_install_takes(store: EnvironmentStore, tiny: Manifest) -> None:
    estimate = store.estimate(tiny)
    assert estimate.needed_bytes > 0
    assert estimate.free_bytes > estimate.needed_bytes


async def test_no_network_is_said_as_such(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    run.answer("sync", Completed(2, "", "error: Request failed after 3 retries\n  cause: dns error\n"))
    message = await refused(store, tiny)
    assert "dns error" in message and "network" in message
    assert [("--offline" in command) for command in run.commands if "sync" in command] == [True, False]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Completed(0, "uv 0.11.14 (x)\n", ""), "too old"),
        (Completed(101, "", "panicked"), "does not say its version"),
        (TimeoutError(), "said nothing for 60 s"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be started"),
    ],
)
async def test_a_uv_that_is_unfit_is_named(
    store: EnvironmentStore, tiny: Manifest, run: Watched, answer: Completed | Exception, words: str
) -> None:
    run.answer("--version", answer)
    assert words in await refused(store, tiny)


async def test_a_home_that_cannot_be_written_is_named(
    tiny: Manifest, run: Watched, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a file").write_bytes(b"")
    message = await refused(open_store(tmp_path / "a file" / "home", run, environ), tiny)
    assert "cannot be written" in message and "WAIFU_LLM_HOME" in message


@pytest.mark.parametrize(("number", "words"), [(errno.EROFS, "Read-only file system"), (errno.ENOSPC, "disk is full")])
def test_an_error_of_the_file_system_says_what_to_do(
    number: int, words: str, tiny: Manifest, run: Watched, home: Path
) -> None:
    builder = Builder(Home(home), UvSettings(), run, {}, 60.0)
    assert words in builder.explain(tiny, OSError(number, os.strerror(number))).message


async def test_a_worker_without_a_lock_is_named(store: EnvironmentStore, tiny: Manifest) -> None:
    tiny.lock.unlink()
    assert "no list of packages" in str(store.status(tiny).problem)
    with pytest.raises(InstallFailed, match="no list of packages"):
        await store.ensure(tiny)
    with pytest.raises(InstallFailed, match="no list of packages"):
        await store.prune([tiny])


async def test_a_lock_that_is_no_text_is_named(store: EnvironmentStore, tiny: Manifest) -> None:
    tiny.lock.write_bytes(b"\xff\xfe")
    with pytest.raises(InstallFailed, match="no list of packages"):
        await store.ensure(tiny)


@pytest.mark.parametrize("answer", [Completed(1, "", ""), OSError(errno.EAGAIN, "no more processes")])
async def test_a_compile_that_fails_is_tried_again_by_the_next_module(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path, environ: dict[str, str], answer: Completed
) -> None:
    run.answer(COMPILE, answer)
    async with bounded():
        environment = await store.ensure(tiny)
        await store.close()
        assert not (environment.folder / "waifu-llm-compiled").exists()
        run.answer(COMPILE, Completed(0, "", ""))
        await built(open_store(home, run, environ), tiny)


async def test_a_lock_that_is_held_for_ever_is_given_up(tmp_path: Path) -> None:
    release = try_lock(tmp_path / "lock")
    assert release is not None
    waits: list[BuildProgress] = []
    async with bounded():
        with pytest.raises(InstallFailed, match="end it"):
            async with locked(tmp_path / "lock", waits.append, patience_s=0.1):
                raise AssertionError("it is held")
        assert len(waits) == 1
        release()
        async with locked(tmp_path / "lock", waits.append):
            assert try_lock(tmp_path / "lock") is None


async def test_a_worker_without_its_package_is_named(store: EnvironmentStore, tiny: Manifest) -> None:
    shutil.rmtree(tiny.package_folder)
    assert "own code" in await refused(store, tiny)


async def test_a_bug_reaches_whoever_waits(store: EnvironmentStore, tiny: Manifest, run: Watched) -> None:
    run.answer("--version", ZeroDivisionError("a bug"))
    async with bounded():
        with pytest.raises(ZeroDivisionError):
            await store.ensure(tiny)


async def test_an_environment_whose_python_is_gone_is_broken_and_built_again(
    store: EnvironmentStore, tiny: Manifest, run: Watched
) -> None:
    async with bounded():
        environment = await built(store, tiny)
        environment.python.unlink()
        if sys.platform != "win32":
            environment.python.symlink_to("/nowhere/python")
        status = store.status(tiny)
        assert status.state is EnvironmentState.BROKEN and "is gone" in str(status.problem)
        assert await store.ensure(tiny) == environment
    assert store.status(tiny).state is EnvironmentState.READY
    assert run.count("sync") == 2


async def test_an_interpreter_that_changed_and_does_not_run_means_a_new_build(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path, environ: dict[str, str]
) -> None:
    async with bounded():
        environment = await built(store, tiny)
        environment.python.unlink()
        environment.python.write_text("#!/bin/sh\necho its library is gone >&2\nexit 127\n")
        environment.python.chmod(0o700)
        later = open_store(home, run, environ)
        assert await later.ensure(tiny) == environment
        await later.close()
    assert run.count("sync") == 2


@pytest.mark.parametrize("answer", [TimeoutError(), FileNotFoundError(errno.ENOENT, "No such file")])
async def test_an_interpreter_that_cannot_be_probed_means_a_new_build(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path, environ: dict[str, str], answer: Exception
) -> None:
    async with bounded():
        environment = await built(store, tiny)
        await spoil_identity(environment.folder)
        run.answer("", answer)
        later = open_store(home, run, environ)
        assert await later.ensure(tiny) == environment
        await later.close()
    assert run.count("sync") == 2


async def test_an_interpreter_that_changed_and_runs_is_kept(
    store: EnvironmentStore, tiny: Manifest, run: Watched, home: Path, environ: dict[str, str]
) -> None:
    """A patch release of Python is nothing to build again for."""
    async with bounded():
        environment = await built(store, tiny)
        await spoil_identity(environment.folder)
        later = open_store(home, run, environ)
        assert await later.ensure(tiny) == environment
        await later.close()
    assert run.count("sync") == 1


async def spoil_identity(folder: Path) -> None:
    file = folder / STAMP_FILE
    stamp = recorded(file.read_bytes())
    file.write_bytes(file.read_bytes().replace(str(stamp.identity[1]).encode(), b"1"))


@pytest.mark.parametrize("damage", ["no stamp", "half a stamp", "a link"])
async def test_a_damaged_environment_is_broken_and_built_again(
    store: EnvironmentStore, tiny: Manifest, damage: str, tmp_path: Path
) -> None:
    async with bounded():
        environment = await built(store, tiny)
        elsewhere = tmp_path / "elsewhere"
        match damage:
            case "no stamp":
                (environment.folder / STAMP_FILE).unlink()
            case "half a stamp":
                (environment.folder / STAMP_FILE).write_bytes((environment.folder / STAMP_FILE).read_bytes()[:40])
            case _:
                environment.folder.rename(elsewhere)
                environment.folder.symlink_to(elsewhere)
        assert store.status(tiny).state is EnvironmentState.BROKEN
        assert await store.ensure(tiny) == environment
    assert store.status(tiny).state is EnvironmentState.READY
    assert not environment.folder.is_symlink()
    assert damage != "a link" or (elsewhere / STAMP_FILE).exists(), "what a link points to is not ours to remove"


async def test_a_second_step_installs_what_has_no_hash(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    lock = wheel_of_installed(wheels, "msgspec")
    write_wheel(wheels, "heavy", "2.13.0", {"heavy.py": b"version = 2\n"})
    provider = f"import heavy\n{PROVIDER}"
    manifest = write_worker(tmp_path / "workers", "local", lock, provider=provider, more='unhashed = ["heavy==2.13.0"]')
    store = open_store(home, run, own_environ)
    async with bounded():
        environment = await built(store, manifest)
        await store.close()
    assert (site_packages(environment.folder) / "heavy.py").exists()
    second = next(command for command in run.commands if "install" in command)
    assert "--torch-backend" not in second, "the user's folder decides"
    assert [("--offline" in command) for command in run.commands if "install" in command] == [True]
    assert (Path(second[second.index("--constraints") + 1])).name == "requirements.lock"


async def test_a_second_step_that_fails_means_that_nothing_is_installed(
    wheels: Path, own_environ: dict[str, str], run: Watched, home: Path, tmp_path: Path
) -> None:
    lock = wheel_of_installed(wheels, "msgspec")
    manifest = write_worker(tmp_path / "workers", "local", lock, more='unhashed = ["heavy==2.13.0"]')
    assert "no fitting wheels" in await refused(open_store(home, run, own_environ), manifest)


async def test_a_home_whose_environments_cannot_be_read_is_said_in_the_status(
    store: EnvironmentStore, tiny: Manifest
) -> None:
    async with bounded():
        environment = await built(store, tiny)
    stamp = environment.folder / STAMP_FILE
    stamp.unlink()
    stamp.mkdir()
    assert "cannot be read" in str(store.status(tiny).problem)
