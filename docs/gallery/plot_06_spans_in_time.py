"""
Spans in time
=============

When in a recording can its rating be decoded? Each recording here joins two utterances of one voice and is rated
twice: once as the first utterance was planted, once as the second. So the truth is known: one rating is in the first
half of the recording, the other in the second. The encoder reads the whole recording; its frames are pooled in windows.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
from demo_speech import demo_speech

import layerprobe as lp

# %%
# The corpus: 96 recordings, whose halves are cut to one duration, so that the joint is in the middle of each.
folder = Path("work/spans")
folder.mkdir(parents=True, exist_ok=True)
speech, rows = demo_speech().table, []
for k in range(0, len(speech), 2):
    first, second = speech.iloc[k], speech.iloc[k + 1]
    (a, rate), (b, _) = soundfile.read(first["path"]), soundfile.read(second["path"])
    half = min(len(a), len(b))
    soundfile.write(folder / f"{k}.wav", np.concatenate([a[:half], b[:half]]), rate)
    row = {"utterance_id": str(k), "path": f"{k}.wav", "speaker_id": first["speaker_id"]}
    rows.append({**row, "arousal_first": first["arousal"], "arousal_second": second["arousal"]})
pd.DataFrame(rows).to_csv(folder / "joined.csv", index=False)
scale = "minimum = 1\nmaximum = 7\n"
(folder / "joined.toml").write_text(
    f'corpus = "joined"\n[targets.arousal_first]\n{scale}[targets.arousal_second]\n{scale}'
)

# %%
# A row of a cache for each window of half a second, one every quarter of a second, and a fit for each quarter of the
# recordings (:doc:`/sweeps-in-time`). Acoustic features have no context: they show where each rating was planted.
manifest, windows = lp.read_manifest(folder / "joined.csv"), lp.SpanOptions(every=0.25, window=0.5)
encoders = {name: lp.load_encoder(name) for name in ("acoustic", "embedded")}
caches = [lp.extract(manifest, e, f"work/spans-{name}.zarr", spans=windows) for name, e in encoders.items()]
plan = lp.plan_sweep(manifest, permutations=19, weighted_sum_seeds=0)
run = lp.sweep(caches, manifest, plan, time=lp.plan_bins("position", bins=4), out="work/runs/spans", jobs=1)
lp.time_map(run)
plt.show()

# %%
# The encoder read the whole recording: its deep layers carry each half into the frames of the other. Where a rating
# can be decoded is not where it was expressed.
table = lp.study(run).time_map.query("layer in ('log_mel', '8')")
print("Answer: the scores of each quarter of the recordings, of features without context and of the deepest layer:")
print(table.pivot(index=["layer", "target"], columns="bin", values="value").round(2).to_string(sparsify=False))
