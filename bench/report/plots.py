"""Bar charts as PNG, in the environment that has matplotlib.

The standard input is a JSON list of `{file, title, panels: [{title, better, log, bars: [[name, median, low, high,
ours]]}]}`.
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

OURS = "#c2410c"
THEIRS = "#64748b"


def draw(figure: dict[str, Any], folder: Path) -> None:
    panels = figure["panels"]
    canvas, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 3.4), squeeze=False)
    for axis, panel in zip(axes[0], panels, strict=True):
        bars = panel["bars"][::-1]
        names = [bar[0] for bar in bars]
        medians = [bar[1] for bar in bars]
        spread = [[bar[1] - bar[2] for bar in bars], [bar[3] - bar[1] for bar in bars]]
        axis.barh(names, medians, color=[OURS if bar[4] else THEIRS for bar in bars])
        axis.errorbar(medians, names, xerr=spread, fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
        if panel["log"]:
            axis.set_xscale("log")
        for place, median in enumerate(medians):
            axis.annotate(f" {median:,.4g}", (median, place), va="bottom", fontsize=7)
        axis.set_title(f"{panel['title']}\n{panel['better']} is better", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.margins(x=0.18)
        axis.spines[["top", "right"]].set_visible(False)
    canvas.suptitle(figure["title"], fontsize=11)
    canvas.tight_layout()
    # No date and no version inside the file: the same numbers give the same bytes.
    canvas.savefig(folder / figure["file"], dpi=110, metadata={"Software": None})
    plt.close(canvas)


def main() -> None:
    folder = Path(sys.argv[1])
    for figure in json.load(sys.stdin):
        draw(figure, folder)


if __name__ == "__main__":
    main()
