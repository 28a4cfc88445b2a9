"""The steps of `scripts/test.py`: what CI runs, in order. Every step runs; the summary says which were bad."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET  # nosec B405 # it reads what pytest wrote
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bootstrap import ROOT, environment, in_venv, say
from browser import announce_browser
from coverage_setup import DATA, prepare_coverage

BUILD = ROOT / "build" / "test"
TYPESCRIPT = ROOT / "clients" / "typescript"
SHIPPED = ("core", "workers", "gateways", "scripts", "benchmarks")
LARGE_MB = 300
# Twice the cores: much of the time is spent waiting for other processes.
PARALLEL = str(max(4, min(8, 2 * (os.cpu_count() or 2))))


@dataclass(slots=True)
class Report:
    """What was run, and how it ended."""

    steps: list[tuple[str, str, float]] = field(default_factory=list)
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def note(self, name: str, ending: str, seconds: float = 0.0) -> None:
        """One step is over: ok, FAILED, or why it was left out."""
        self.steps.append((name, ending, seconds))

    def run(self, name: str, *argv: str | Path, cwd: Path = ROOT, env: Mapping[str, str] = {}) -> bool:
        """Run one command as a step, its output as it comes."""
        say(f"\n== {name}")
        start = time.monotonic()
        command = [str(part) for part in argv]
        good = (
            subprocess.run(command, cwd=cwd, env=environment(env), stdin=subprocess.DEVNULL, check=False).returncode
            == 0
        )
        self.note(name, "ok" if good else "FAILED", time.monotonic() - start)
        return good

    def count(self, results: Path) -> None:
        """Add the counts of a junit file; without one nothing was run."""
        if not results.is_file():
            return
        for suite in ET.parse(results).getroot().iter("testsuite"):  # noqa: S314 # nosec B314 # pytest wrote it, a moment ago
            bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            left_out = int(suite.get("skipped", 0))
            self.failed += bad
            self.skipped += left_out
            self.passed += int(suite.get("tests", 0)) - bad - left_out

    def finish(self) -> int:
        """Print the summary; its last line counts tests, and each other step that failed as one more failure."""
        say("\n== summary")
        for name, ending, seconds in self.steps:
            say(f"{name:<28} {ending:<8} {seconds:6.1f} s")
        bad = [name for name, ending, _ in self.steps if ending == "FAILED"]
        failed = self.failed + sum(1 for name in bad if name != "tests" or not self.failed)
        if bad:
            say(f"failed: {', '.join(bad)}")
        say(f"{self.passed} passed, {failed} failed, {self.skipped} skipped")
        return 1 if failed else 0


def projects() -> Iterator[Path]:
    """The folders that hold a worker or gateway, the tests' own included: each is an import root of its own."""
    for parent in ("workers", "gateways", "tests/fakes"):
        for manifest in sorted((ROOT / parent).glob("*/pyproject.toml")):
            yield manifest.parent


def names(parent: str) -> list[str]:
    """The `workers` or `gateways` there are."""
    return [project.name for project in projects() if project.parent == ROOT / parent]


def _shipped() -> list[Path]:
    return [project for project in projects() if ROOT / "tests" not in project.parents]


def _light(project: Path) -> bool:
    manifest = tomllib.loads((project / "pyproject.toml").read_text("utf-8"))
    size = manifest.get("tool", {}).get("waifu-llm", {}).get("download_mb", 0)
    return float(size) < LARGE_MB


def run_all(*, full: bool, worker: str | None, gateway: str | None, pytest: list[str]) -> int:
    """All steps, those of one worker or gateway, or the tests that `pytest` selects. Returns the exit code."""
    report = Report()
    for name, kind in ((worker, "worker"), (gateway, "gateway")):
        if name is not None and name not in names(f"{kind}s"):
            say(f"there is no {kind} {name!r}; there are: {', '.join(names(f'{kind}s'))}")
            return 2
    BUILD.mkdir(parents=True, exist_ok=True)
    if worker is None and not pytest:
        announce_browser()
    if worker is not None:
        _one_project(report, ROOT / "workers" / worker, _tests_of_worker(worker), full, pytest)
    elif gateway is not None:
        tests = [ROOT / "tests" / "gateways" / gateway]
        _one_project(report, ROOT / "gateways" / gateway, [path for path in tests if path.is_dir()], full, pytest)
    elif pytest:
        _tests(report, full, pytest)
    else:
        _lint(report, [ROOT])
        _types(report, [ROOT / "core", ROOT / "scripts", ROOT / "tests", ROOT / "benchmarks", *_shipped()])
        report.run("types on Windows", in_venv("mypy"), "--platform", "win32", "--no-warn-unreachable", "core")
        _workflows(report)
        _typescript(report)
        _fill_cache(report, [project for project in projects() if full or _light(project)])
        with_coverage = prepare_coverage(BUILD)
        _tests(report, full, [], with_coverage)
        _coverage(report)
        _benchmarks(report)
    return report.finish()


def _lint(report: Report, paths: list[Path]) -> None:
    report.run("format", in_venv("ruff"), "format", "--check", *paths)
    report.run("lint", in_venv("ruff"), "check", *paths)
    shipped = [ROOT / part for part in SHIPPED] if paths == [ROOT] else [path for path in paths if path in _shipped()]
    config = ("--configfile", ROOT / "pyproject.toml")
    report.run("security: bandit", in_venv("bandit"), "--quiet", "--recursive", *config, *shipped)


def _types(report: Report, paths: list[Path]) -> None:
    roots = [ROOT / "core", ROOT / "scripts", ROOT / "tests", *projects()]
    report.run("types", in_venv("mypy"), *paths, env={"MYPYPATH": os.pathsep.join(map(str, roots))})


def _workflows(report: Report) -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    report.run("workflows: zizmor", in_venv("zizmor"), "--offline", "--no-progress", "--quiet", *workflows)
    schema = ("--builtin-schema", "vendor.github-workflows")
    report.run("workflows: schema", in_venv("check-jsonschema"), *schema, *workflows)


def _typescript(report: Report) -> None:
    npm = shutil.which("npm")
    lock = TYPESCRIPT / "package-lock.json"
    if npm is None or not lock.is_file():
        report.note("typescript", "no Node" if npm is None else "no lock")
        return
    stamp = TYPESCRIPT / "node_modules" / ".waifu-llm-installed"
    wanted = lock.read_bytes()
    if not stamp.is_file() or stamp.read_bytes() != wanted:
        if not report.run("typescript: packages", npm, "ci", "--no-audit", "--no-fund", cwd=TYPESCRIPT):
            return
        stamp.write_bytes(wanted)
    report.run("typescript: types", npm, "run", "--silent", "check", cwd=TYPESCRIPT)
    lollms = ROOT / "gateways" / "lollms" / "waifu_lollms"
    static = [file for file in (lollms / "static").iterdir() if file.suffix in (".css", ".js")]
    ours = [file for file in static if not file.name.startswith("socket.io")]
    pages = sorted([*ours, lollms / "playground.html", ROOT / "tests/gateways/lollms/javascript/driver.mjs"])
    prettier = (
        npm,
        "exec",
        "--offline",
        "--",
        "prettier",
        "--config",
        ".prettierrc.json",
        "--ignore-path",
        ".gitignore",
    )
    report.run("playground: format", *prettier, "--check", *pages, cwd=TYPESCRIPT)


def _fill_cache(report: Report, chosen: list[Path]) -> None:
    """Install each lock once, into a folder that is thrown away: from then on the tests can build it offline."""
    for project in chosen:
        lock = project / "requirements.lock"
        if not lock.is_file():
            continue
        with tempfile.TemporaryDirectory(dir=BUILD, ignore_cleanup_errors=True) as folder:
            install = (in_venv("uv"), "pip", "install", "--quiet", "--require-hashes", "--requirements", lock)
            where = ("--python", in_venv("python"), "--target", Path(folder) / "packages")
            report.run(f"packages of {project.name}", *install, *where)


def _tests_of_worker(worker: str) -> list[Path]:
    longer = tuple(f"test_{name}" for name in names("workers") if name != worker and name.startswith(worker))
    return [
        file
        for file in sorted((ROOT / "tests" / "workers").glob(f"test_{worker}*.py"))
        if not longer or not file.name.startswith(longer)
    ]


def _one_project(report: Report, folder: Path, tests: list[Path], full: bool, pytest: list[str]) -> None:
    _lint(report, [folder, *tests])
    _types(report, [folder, *tests])
    _fill_cache(report, [folder])
    if tests:
        _tests(report, full, [*pytest, *map(str, tests)])
    else:
        report.note(f"tests of {folder.name}", "FAILED")


def _tests(report: Report, full: bool, chosen: list[str], env: Mapping[str, str] = {}) -> None:
    results = BUILD / "results.xml"
    results.unlink(missing_ok=True)
    argv: list[str | Path] = [in_venv("python"), "-m", "pytest", "-q", "--durations=10", f"--junitxml={results}"]
    if not chosen:
        argv += ["-n", PARALLEL, "--dist=loadgroup"]
    if full:
        argv += ["-m", "not audited"]
    if shutil.which("node") is None:
        argv.append("--ignore=tests/typescript")
    report.run("tests", *argv, *chosen, env=env)
    report.count(results)


def _benchmarks(report: Report) -> None:
    """The benchmarks' short form: it says whether every answer was right, and fails for no other reason."""
    if sys.platform == "win32":
        report.note("benchmarks", "no POSIX")
        return
    record = BUILD / "benchmarks.json"
    report.run("benchmarks", in_venv("python"), ROOT / "benchmarks" / "run.py", "--short", "--json", record)


def _coverage(report: Report) -> None:
    """The gates of pyproject's `[tool.gates]`: pure modules to the last branch, the whole to a percentage."""
    gates = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["gates"]
    coverage, rcfile = in_venv("coverage"), f"--rcfile={DATA.parent / 'config.ini'}"
    report.run("coverage: combine", coverage, "combine", "--quiet", rcfile)
    pure = ",".join(str(ROOT / module) for module in gates["pure"])
    report.run("coverage: pure modules", coverage, "report", rcfile, f"--include={pure}", "--fail-under=100")
    report.run("coverage: all", coverage, "report", rcfile, f"--fail-under={gates['all']}")
