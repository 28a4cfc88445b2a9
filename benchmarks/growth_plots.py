"""Draws the plots of a growth run as SVG: the same bytes from the same record, with nothing of this machine in them.

Runs by itself, in an environment with matplotlib: the record, then the folder. Its ground is white on pages of any hue.
"""

import sys
from pathlib import Path
from typing import Final

import matplotlib
from benchmarks.growth_panels import Line, Panel, Plot, plots
from benchmarks.growth_record import GrowthRecord
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullLocator, StrMethodFormatter

# Colours that people who see colours differently can tell apart (Okabe and Ito), and a mark of its own for each.
_HUES: Final = {
    "product": ("#0072b2", "o"),
    "limit": ("#009e73", "s"),
    "module": ("#56b4e9", "D"),
    "worker": ("#d55e00", "^"),
    "service": ("#777777", "v"),
    "clients": ("#cc79a7", "P"),
    "others": ("#8f7f00", "h"),
    "late": ("#e69f00", "X"),
    "sum": ("#000000", "."),
}


def _style() -> None:
    matplotlib.rc("svg", hashsalt="waifu-llm", fonttype="none")
    matplotlib.rc("font", family="DejaVu Sans", size=9.5)
    matplotlib.rc("axes", titlesize=11, titleweight="bold", grid=True)
    matplotlib.rc("axes.spines", top=False, right=False)
    matplotlib.rc("grid", color="#dddddd", linewidth=0.6)
    matplotlib.rc("legend", frameon=False)


def draw(plot: Plot, folder: Path) -> None:
    """One file."""
    figure = Figure(figsize=(9.6, 3.6), layout="constrained", facecolor="white")
    for axes, panel in zip(figure.subplots(1, len(plot.panels)), plot.panels, strict=True):
        _panel(axes, panel)
    metadata = {"Title": plot.text, "Date": None, "Creator": None}
    figure.savefig(folder / plot.file, format="svg", metadata=metadata)


def _panel(axes: Axes, panel: Panel) -> None:
    for line in panel.lines:
        _line(axes, line)
    if panel.level is not None:
        label, value = panel.level
        axes.axhline(value, color="#000000", linewidth=1, linestyle=":", label=label)
    axes.set_title(panel.title, loc="left")
    axes.set_xlabel(panel.across)
    axes.set_ylabel(panel.up)
    if panel.log_across:
        axes.set_xscale("log")
        sizes = sorted({at for line in panel.lines for at in line.points})
        axes.set_xticks(sizes, [_short(at) for at in sizes], minor=False)
        axes.minorticks_off()
    if panel.log_up:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        top = max((found.most for line in panel.lines for found in line.points.values()), default=1.0)
        # Above a level that nothing crosses is room for the names.
        axes.set_ylim(0, 1.1 * top if panel.level is None else 1.6 * panel.level[1])
        if panel.up == "chunks/s":
            axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    if len(panel.lines) + (panel.level is not None) > 1:
        axes.legend(
            fontsize=8.5, loc="best" if panel.level is None else "upper left", ncols=1 if panel.level is None else 2
        )


def _line(axes: Axes, line: Line) -> None:
    colour, mark = _HUES[line.hue]
    across = sorted(line.points)
    spreads = [line.points[at] for at in across]
    axes.plot(across, [found.median for found in spreads], color=colour, marker=mark, markersize=5, label=line.label)
    low, high = [found.least for found in spreads], [found.most for found in spreads]
    axes.fill_between(across, low, high, color=colour, alpha=0.18, linewidth=0)


def _short(number: int) -> str:
    """1500 is 1.5k."""
    if number >= 1_000_000:
        return f"{number / 1e6:g}M"
    return f"{number / 1e3:g}k" if number >= 1000 else str(number)


def main(record: str, folder: str) -> None:
    """Draw all of them."""
    _style()
    Path(folder).mkdir(parents=True, exist_ok=True)
    for plot in plots(GrowthRecord.read(Path(record))):
        draw(plot, Path(folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
