"""
From a Hugging Face dataset
===========================

How do I probe an encoder on a dataset of the Hugging Face hub? Its Parquet files hold audio as bytes. ``import_corpus``
reads the other columns alone and writes a manifest whose paths are the rows, so that no audio is copied, and neither
torchcodec nor a resampling comes between the dataset and the encoder.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from datasets import Audio, Dataset
from demo_speech import demo_speech

import layerprobe as lp

# %%
# A small dataset in a folder as the hub has it; here it is made of the demo's speech.
speech = demo_speech().table
rows = {
    "audio": [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in speech["path"]],
    "speaker": speech["speaker_id"].tolist(),
    "EmoAct": speech["arousal"].tolist(),
}
dataset = Dataset.from_dict(rows).cast_column("audio", Audio())
folder = Path("work/dataset")
(folder / "data").mkdir(parents=True, exist_ok=True)
dataset.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
print(dataset.features)

# %%
# The import, as ``layerprobe manifest import hf work/dataset --map arousal=EmoAct --scale arousal=1:7 --out …`` does
# it. A name on the hub can stand in place of the folder. The scale has to be stated, for no dataset does.
options = lp.ImportOptions(columns={"arousal": "EmoAct"}, scales={"arousal": (1, 7)})
imported = lp.import_corpus("hf", folder, options)
print(imported.summary(), *imported.warnings, sep="\n")
lp.write_manifest(folder / "dataset.csv", imported.table, imported.header)
print(imported.table[["utterance_id", "path", "speaker_id", "arousal"]].head(3).to_string(index=False))

# %%
# From here on it is a corpus like any other. A first look needs no controls and no weighted sum.
manifest = lp.read_manifest(folder / "dataset.csv")
cache = lp.extract(manifest, lp.load_encoder("embedded"), "work/dataset.zarr")
plan = lp.plan_sweep(manifest, controls=(), weighted_sum_seeds=0)
run = lp.sweep([cache], manifest, plan, out="work/runs/dataset")
plt.figure(lp.curves(run))
plt.show()

# %%
found = lp.study(run).answers[0]
print(f"Answer: {len(dataset)} rows of the dataset became {len(cache)} cached utterances; arousal has a moment-matched")
print(f"CCC of {found.score:.2f} (95 % {found.ci_low:.2f} to {found.ci_high:.2f}) at the layer that is selected.")
