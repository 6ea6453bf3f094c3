"""The figure of the architecture page: the files of a study, and the packages that make each from those before."""

from __future__ import annotations

import matplotlib.pyplot as plt

FILES = [  # what a user can open, and what makes it of the file above
    ("recordings and ratings", "audio files, a table", ""),
    ("manifest", "my.csv, my.toml", "probe.data"),
    ("cache", "NAME.zarr, with its plan", "probe.encoders, probe.extraction"),
    ("scores", "runs/NAME: scores, predictions, plan.toml", "probe.solvers, probe.sweep"),
    ("findings", "findings.json", "analysis"),
    ("figures", "report.html, figures/", "figures"),
]
STEP, HEIGHT, WIDTH = 1.0, 0.62, 4.2

figure, ax = plt.subplots(figsize=(6.4, 4.6), layout="constrained")
for row, (name, content, package) in enumerate(FILES):
    top = -row * STEP
    ax.add_patch(plt.Rectangle((0, top - HEIGHT), WIDTH, HEIGHT, facecolor="#eaf1f7", edgecolor="#33658a", linewidth=1))
    ax.text(0.15, top - 0.22, name, weight="bold", va="center")
    ax.text(0.15, top - 0.46, content, size=8.5, va="center")
    if package:
        ax.annotate(
            "", (WIDTH / 2, top), (WIDTH / 2, top + STEP - HEIGHT), arrowprops={"arrowstyle": "-|>", "color": "#33658a"}
        )
        ax.text(WIDTH + 0.25, top + (STEP - HEIGHT) / 2, package, family="monospace", size=9, va="center")
ax.set(xlim=(-0.1, 8.4), ylim=(-len(FILES) * STEP + 0.2, 0.1))
ax.axis("off")
