"""How the tests' coverage reaches every process: one config file at a fixed path, read where Python starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from bootstrap import ROOT

DATA = ROOT / "build" / "test" / "coverage" / "data"

_CONFIG = """[run]
branch = true
parallel = true
data_file = {data}
source_pkgs =
{packages}
patch = _exit
sigterm = true
disable_warnings = module-not-imported, no-data-collected, module-not-measured

[paths]
{paths}

[report]
show_missing = true
skip_covered = true
precision = 1
exclude_also =
    if TYPE_CHECKING:
    ^\\s*\\.\\.\\.$
    assert_never\\(
    if sys\\.platform == "win32":
partial_also =
    if sys\\.platform [!=]= "
"""


def _packages() -> list[Path]:
    core = [ROOT / "core" / name for name in ("waifu_llm", "waifu_worker", "waifu_client")]
    return core + [path for parent in ("workers", "gateways") for path in sorted((ROOT / parent).glob("*/waifu_*"))]


def prepare_coverage(build: Path) -> dict[str, str]:
    """Write the config, forget earlier data; the variables that make children of the tests measure themselves.

    Core processes read the variable through coverage's own `.pth`. Workers have a closed environment and run our
    code from a seed folder: tests place a `.pth` that names this file, and `[paths]` brings the folders together.
    """
    folder = build / "coverage"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packages = _packages()
    config = folder / "config.ini"
    config.write_text(
        _CONFIG.format(
            data=folder / "data",
            packages="\n".join(f"    {path.name}" for path in packages),
            paths="\n".join(
                f"{path.name} =\n    {path}\n    */seed/*/{path.name}\n    */seeds*/*/{path.name}" for path in packages
            ),
        ),
        "utf-8",
    )
    return {"COVERAGE_PROCESS_START": str(config)}
