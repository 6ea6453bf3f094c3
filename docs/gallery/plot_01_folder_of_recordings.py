"""
From a folder of recordings
===========================

Which layer of an encoder predicts the ratings of the recordings in my folder? The folder holds audio files whose
names begin with the speaker, and a spreadsheet of ratings. A table and a header of five lines make a manifest of them.
"""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from demo_speech import demo_speech

import layerprobe as lp

# %%
# What you have: here the demo's speech and its arousal, as a folder with ``ratings.csv``.
folder = Path("work/recordings")
folder.mkdir(parents=True, exist_ok=True)
speech = demo_speech().table
for path in speech["path"]:
    shutil.copy(path, folder)
files = speech["path"].map(lambda path: Path(path).name)
pd.DataFrame({"file": files, "arousal": speech["arousal"]}).to_csv(folder / "ratings.csv", index=False)

# %%
# The manifest (:doc:`/manifests`): a row for each utterance, and a header with the scale of the ratings.
ratings = pd.read_csv(folder / "ratings.csv")
table = pd.DataFrame(
    {
        "utterance_id": ratings["file"].str.removesuffix(".wav"),
        "path": ratings["file"],
        "speaker_id": ratings["file"].str.rsplit("_", n=1).str[0],  # en-us_m1_00.wav: speaker en-us_m1
        "arousal": ratings["arousal"],
    }
)
table.to_csv(folder / "my.csv", index=False)
(folder / "my.toml").write_text("""\
corpus = "my recordings"

[targets.arousal]
minimum = 1
maximum = 7
""")
manifest = lp.read_manifest(folder / "my.csv")
print(manifest)

# %%
# Each recording is encoded once, and each layer probed on speakers that the probe was not trained on.
cache = lp.extract(manifest, lp.load_encoder("embedded"), "work/recordings.zarr")
run = lp.sweep([cache], manifest, out="work/runs/recordings")
plt.figure(lp.heatmap(run))
plt.show()

found = lp.study(run).answers[0]
print(f"Answer: layer {found.best_layer} predicts arousal best, with a moment-matched CCC of {found.best_score:.2f}.")
print(f"Layers that are not significantly worse: {', '.join(found.best_set)} (95 % set of best layers).")
print(f"The layer that cross-validation selects: {found.score:.2f}, 95 % {found.ci_low:.2f} to {found.ci_high:.2f}.")
