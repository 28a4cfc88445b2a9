"""The workers and gateways there are."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import waifu_llm
from waifu_llm import catalog as catalog_module
from waifu_llm.catalog import BrokenManifest, Catalog, KeyNeed, Manifest, bundled_roots, read_manifest
from waifu_llm.errors import UnknownProvider

GOOD = """\
[project]
name = "waifu-llm-{name}"
version = "1.2.3"
authors = [{{ name = "A" }}, {{ email = "b@example.org" }}, {{ name = "C" }}]

[tool.waifu-llm]
kind = "{kind}"
title = "T"
description = "D"
homepage = "https://example.org"
category = "api"
package = "waifu_x"
abilities = ["chat"]
key = {{ need = "required", env = ["X_KEY"] }}

[tool.waifu-llm.options.base_url]
type = "string"
help = "H"
identity = true
"""


def folder(root: Path, name: str, text: str | None = None, kind: str = "worker") -> Path:
    made = root / name
    made.mkdir(parents=True)
    (made / "pyproject.toml").write_text(GOOD.format(name=name, kind=kind) if text is None else text, "utf-8")
    return made


def test_a_manifest_says_what_its_pyproject_declares(tmp_path: Path) -> None:
    manifest = read_manifest(folder(tmp_path, "x"))
    assert (manifest.name, manifest.version, manifest.author) == ("x", "1.2.3", "A, , C")
    assert manifest.declared.key.need is KeyNeed.REQUIRED
    assert manifest.declared.options["base_url"].identity
    assert manifest.lock == tmp_path / "x" / "requirements.lock"
    assert manifest.package_folder == tmp_path / "x" / "waifu_x"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no table 'project'"),
        ("[project]\nversion = '1'\n", "no table 'tool'"),
        ("[project]\nversion = '1'\n[tool.other]\n", "no table 'waifu-llm'"),
        ("[project]\nversion = 1\n", "Expected `str`"),
        ("[project", "end of document"),
        (GOOD.format(name="x", kind="plugin"), "plugin"),
        (GOOD.format(name="x", kind="worker").replace("waifu_x", "openai"), "package"),
        (GOOD.format(name="x", kind="worker").replace("identity = true", "identify = true"), "identify"),
    ],
)
def test_a_manifest_that_does_not_say_what_it_must_is_named(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenManifest, match=words) as caught:
        read_manifest(folder(tmp_path, "x", text))
    assert "x" in caught.value.message


def test_a_manifest_that_cannot_be_read_is_broken(tmp_path: Path) -> None:
    with pytest.raises(BrokenManifest):
        read_manifest(tmp_path / "nowhere")
    bytes_only = folder(tmp_path, "x")
    (bytes_only / "pyproject.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenManifest):
        read_manifest(bytes_only)


def test_workers_and_gateways_share_one_name_space(tmp_path: Path) -> None:
    workers, gateways = tmp_path / "workers", tmp_path / "gateways"
    folder(workers, "zeta")
    folder(workers, "alpha")
    folder(gateways, "http", kind="gateway")
    catalog = Catalog.read((workers, gateways, tmp_path / "none"))
    assert [manifest.name for manifest in catalog.all()] == ["alpha", "http", "zeta"]
    assert [manifest.name for manifest in catalog.workers()] == ["alpha", "zeta"]
    assert catalog.find("http").declared.kind == "gateway"
    assert catalog.worker("zeta").name == "zeta"
    with pytest.raises(UnknownProvider, match="there are: alpha, zeta"):
        catalog.worker("http")


@pytest.mark.parametrize("name", ["Upper", "1st", "with-hyphen", "a" * 33, "con.", "ünï", "a b"])
def test_a_folder_with_a_name_that_no_provider_may_have_is_none(name: str, tmp_path: Path) -> None:
    folder(tmp_path, name)
    (tmp_path / "without_pyproject").mkdir()
    (tmp_path / "file").write_bytes(b"")
    catalog = Catalog.read((tmp_path,))
    assert catalog.all() == [] and catalog.broken == {}


@pytest.mark.parametrize("name", ["../x", "/etc", "x/../x", "", ".", "x\0", "X", "x\n", "ünï", "x" * 5000])
def test_names_are_looked_up_and_never_become_paths(name: str, tmp_path: Path) -> None:
    """FAULTS S12."""
    folder(tmp_path, "x")
    catalog = Catalog.read((tmp_path,))
    for look_up in (catalog.find, catalog.worker):
        with pytest.raises(UnknownProvider) as caught:
            look_up(name)
        assert len(caught.value.message) < 200


def test_a_broken_manifest_fails_only_whoever_asks_for_it(tmp_path: Path) -> None:
    folder(tmp_path, "bad", "")
    folder(tmp_path, "good")
    catalog = Catalog.read((tmp_path,))
    assert list(catalog.broken) == ["bad"]
    assert catalog.worker("good").name == "good"
    for look_up in (catalog.find, catalog.worker):
        with pytest.raises(BrokenManifest):
            look_up("bad")


def test_a_manifest_is_read_when_somebody_asks_for_it(tmp_path: Path) -> None:
    folder(tmp_path, "first")
    later = folder(tmp_path, "later")
    catalog = Catalog.read((tmp_path,))
    (later / "pyproject.toml").write_text("")
    assert catalog.worker("first").name == "first"
    assert catalog.has("worker", "first")
    assert not catalog.has("gateway", "first")
    assert not catalog.is_broken("first")
    assert catalog.is_broken("later")
    assert not catalog.has("worker", "later")
    folder(tmp_path, "new")
    assert [manifest.name for manifest in catalog.all()] == ["first"], "what there is was looked for once"


def test_what_threads_ask_for_at_once_is_there_for_each(tmp_path: Path) -> None:
    names = [f"worker{number}" for number in range(20)]
    for name in names:
        folder(tmp_path, name)
    for _ in range(10):
        catalog = Catalog.read((tmp_path,))
        with ThreadPoolExecutor(8) as pool:
            whole = pool.submit(catalog.read_all)
            assert [manifest.name for manifest in pool.map(catalog.worker, names)] == names
            whole.result()


def test_an_empty_catalog_says_so() -> None:
    with pytest.raises(UnknownProvider, match="there are: none"):
        Catalog({}, {}).find("x")
    with pytest.raises(UnknownProvider, match="there are: none"):
        Catalog({}, {}).worker("x")


def test_the_bundled_workers_are_all_good_and_locked() -> None:
    catalog = Catalog.read()
    assert catalog.broken == {}
    assert {"echo", "openai"} <= {manifest.name for manifest in catalog.workers()}
    for manifest in catalog.all():
        lock = manifest.lock.read_text("utf-8")
        assert "--hash=sha256:" in lock
        assert "://" not in lock, "no address in a lock"
        assert "msgspec==" in lock, "every worker needs it for the wire"


def test_a_wheels_bundle_comes_before_the_folders_of_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Path(waifu_llm.__file__).parent
    assert bundled_roots() == (package.parent.parent / "workers", package.parent.parent / "gateways")
    installed = tmp_path / "site-packages" / "waifu_llm"
    (installed / "_bundle").mkdir(parents=True)
    monkeypatch.setattr("waifu_llm.catalog.__file__", str(installed / "catalog.py"))
    assert bundled_roots() == (installed / "_bundle" / "workers", installed / "_bundle" / "gateways")


def test_two_threads_never_read_manifests_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec finds out about a type at its first use; two threads that have it do so at once end the process."""
    catalog = Catalog.read()
    both = threading.Barrier(2, timeout=0.2)
    met: list[str] = []

    def reading(folder: Path) -> Manifest:
        try:
            both.wait()
        except threading.BrokenBarrierError:
            both.reset()
        else:
            met.append(folder.name)
        return read_manifest(folder)

    monkeypatch.setattr(catalog_module, "read_manifest", reading)
    threads = [threading.Thread(target=catalog.find, args=(name,)) for name in ("echo", "openai")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == []
