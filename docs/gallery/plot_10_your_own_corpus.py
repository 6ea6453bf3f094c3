"""
Your own corpus
===============

How does my spreadsheet become a manifest, and what does an error look like? This one was exported with semicolons and
decimal commas, names its columns in its own way, and has two errors.
"""

from pathlib import Path

import pandas as pd
from demo_speech import demo_speech

import layerprobe as lp

# %%
# The spreadsheet.
speech = demo_speech()
folder = speech.path.parent
export = speech.table[["utterance_id", "path", "speaker_id", "arousal"]]
export = export.set_axis(["id", "file", "who", "arousal"], axis="columns")
export["file"] = export["file"].map(lambda path: f"wav/{Path(path).name}")
export["arousal"] = export["arousal"].mask(export.index == 2, 45)  # a decimal comma was forgotten
export["file"] = export["file"].mask(export.index == 5, "wav/en-us_M1_10.wav")  # another case than the file's
export.to_csv(folder / "export.csv", sep=";", decimal=",", index=False)
print((folder / "export.csv").read_text()[:200])

# %%
# Columns get the names of a manifest (:doc:`/manifests`). The header names the corpus and the scale of the ratings.
# (``layerprobe manifest init`` drafts a header from a table.)
table = pd.read_csv(folder / "export.csv", sep=";", decimal=",", dtype={"id": str})
table = table.rename(columns={"id": "utterance_id", "file": "path", "who": "speaker_id"})
(folder / "mine.toml").write_text("""\
corpus = "my corpus"
licence = "CC BY 4.0"

[targets.arousal]
minimum = 1
maximum = 7
meaning = "very calm to very active"
""")
table.to_csv(folder / "mine.csv", index=False)

# %%
# Every row is checked, and all errors are reported together, each with its row as a spreadsheet shows it.
try:
    lp.read_manifest(folder / "mine.csv")
except lp.InputError as error:
    message = str(error)
print(message)

# %%
# After both cells are corrected, the manifest is read and described.
table["arousal"] = table["arousal"].replace(45, 4.5)
table["path"] = table["path"].str.replace("_M1_", "_m1_")
table.to_csv(folder / "mine.csv", index=False)
manifest = lp.read_manifest(folder / "mine.csv")
print(lp.describe(manifest).summary())
print("Answer: both errors were named with their rows; after two corrections there is", manifest)
