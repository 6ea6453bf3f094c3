"""
From a Hugging Face dataset
===========================

How do I probe an encoder on a dataset of the Hugging Face hub? Its audio column holds the bytes of audio files.
``Audio(decode=False)`` returns them as they are, so that neither torchcodec nor a resampling comes between the
dataset and the encoder; they are written to files, and a manifest names these.
"""

from pathlib import Path

import matplotlib.pyplot as plt
from datasets import Audio, Dataset
from demo_speech import demo_speech

import layerprobe as lp

# %%
# A small dataset as ``load_dataset("NAME", split="train")`` returns one; here it is made of the demo's speech.
speech = demo_speech().table
rows = {
    "audio": [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in speech["path"]],
    "speaker": speech["speaker_id"].tolist(),
    "arousal": speech["arousal"].tolist(),
}
dataset = Dataset.from_dict(rows).cast_column("audio", Audio())
print(dataset.features)

# %%
# The bytes become files, all other columns a table.
folder = Path("work/dataset")
folder.mkdir(parents=True, exist_ok=True)
dataset = dataset.cast_column("audio", Audio(decode=False))
for row in dataset:
    (folder / row["audio"]["path"]).write_bytes(row["audio"]["bytes"])
table = dataset.remove_columns("audio").to_pandas().rename(columns={"speaker": "speaker_id"})
table["path"] = [row["path"] for row in dataset["audio"]]
table["utterance_id"] = table["path"].str.removesuffix(".wav")
header = 'corpus = "my dataset"\n[targets.arousal]\nminimum = 1\nmaximum = 7\n'
(folder / "dataset.toml").write_text(header)
table.to_csv(folder / "dataset.csv", index=False)

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
