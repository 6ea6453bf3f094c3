"""
Segments in time
================

When in a recording can its rating be predicted? A row of a manifest may be a part of a file, from ``start`` to
``end``: a word of an alignment, or as here one of four windows. Only that span is read and encoded. Each recording
joins two utterances of one voice, so the truth is known: the first half carries one arousal, the second another.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
from demo_speech import demo_speech

import layerprobe as lp

# %%
# Each recording is cut into two windows of its first utterance and two of its second, a row for each.
folder = Path("work/segments")
folder.mkdir(parents=True, exist_ok=True)
speech, rows = demo_speech().table, []
for k in range(0, len(speech), 2):
    first, second = speech.iloc[k], speech.iloc[k + 1]
    (a, rate), (b, _) = soundfile.read(first["path"]), soundfile.read(second["path"])
    soundfile.write(folder / f"{k}.wav", np.concatenate([a, b]), rate)
    edges = np.concatenate([np.linspace(0, len(a), 3), len(a) + np.linspace(0, len(b), 3)[1:]]) / rate
    for position in range(4):
        row = {"utterance_id": f"{k}@{position}", "path": f"{k}.wav", "position": position}
        row |= {"speaker_id": first["speaker_id"], "start": edges[position], "end": edges[position + 1]}
        rows.append({**row, "arousal_first": first["arousal"], "arousal_second": second["arousal"]})
table = pd.DataFrame(rows)

# %%
# One cache of all windows; one sweep for each position (:doc:`/erasure-time-voice`).
scale = "minimum = 1\nmaximum = 7\n"
header = f'corpus = "segments"\n[targets.arousal_first]\n{scale}[targets.arousal_second]\n{scale}'
scores, encoder = [], lp.load_encoder("embedded")
for position in range(4):
    table[table["position"] == position].to_csv(folder / f"{position}.csv", index=False)
    (folder / f"{position}.toml").write_text(header)
    manifest = lp.read_manifest(folder / f"{position}.csv")
    cache = lp.extract(manifest, encoder, "work/segments.zarr")
    plan = lp.plan_sweep(manifest, controls=(), weighted_sum_seeds=0)
    run = lp.sweep([cache], manifest, plan, out=f"work/runs/segments/{position}", jobs=1)
    scores += [{"position": position, **vars(answer)} for answer in lp.study(run).answers]
scores = pd.DataFrame(scores)
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for target, group in scores.groupby("target"):
    ax.plot(group["position"], group["score"], "o-", label=target)
    ax.fill_between(group["position"], group["ci_low"], group["ci_high"], alpha=0.2)
ax.axvline(1.5, color="0.6", linewidth=1)  # where the second utterance begins
ax.set(xlabel="window", xticks=range(4), ylabel="moment-matched CCC")
ax.legend(frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
plt.show()
print("Answer: the scores of the windows, in order:")
print(scores.pivot(index="target", columns="position", values="score").round(2).to_string())
