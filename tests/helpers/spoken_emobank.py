"""EmoBank's rated sentences as synthetic speech: text and ratings are real, prosody expresses arousal but not valence.

Buechel and Hahn (2017): sentences that readers rated for valence, arousal and dominance, with an official split. Each
part has talkers of its own, so that train, development and test have no sentence and no speaker in common. The prosody
follows the sentence's rated arousal, in standard deviations of the training part, by the demo's rule.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
import soxr
from helpers.measured_targets import REAL_DATA

from layerprobe.probe.data.manifest.schema import Header, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.synthesis.demo_corpus import utterance_of_arousal
from layerprobe.probe.synthesis.espeak import synthesise

SENTENCES = REAL_DATA / "emobank" / "sentences.csv"
RATE = 16_000
# variants of one accent, all different talkers: no robots, and none with "breath", whose noise is never the same
TALKERS = (
    "Alex Andrea Andy Annie Denis Diogo Gene Henrique Hugo Jacky Lee Marco Mario Michael Mike Nguyen adam anika "
    "announcer antonio aunty belinda benjamin boris david ed edward f1 f4 grandma grandpa gustave ian iven john "
    "kaukovalta linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel norbert pablo paul pedro quincy rob robert "
    "shelby steph travis zac"
).split()
VOICES = [f"en-us+{TALKERS[7 * k % len(TALKERS)]}" for k in range(len(TALKERS))]  # in an order that is no alphabet's
PARTS = {"train": ("train", VOICES[:36]), "dev": ("development", VOICES[36:48]), "test": ("test", VOICES[48:])}
TARGETS = {
    "arousal": Target(1, 5, meaning="calm to excited, of the reader of the sentence"),
    "valence": Target(1, 5, meaning="negative to positive, of the reader of the sentence"),
    "dominance": Target(1, 5, meaning="controlled to in control, of the reader of the sentence"),
}
HEADER = Header(
    corpus="EmoBank, spoken",
    version="1",
    licence="CC-BY-SA 4.0; spoken by espeak-ng",
    notes="Real sentences and ratings (Buechel and Hahn, 2017) in synthetic voices; arousal moves the prosody.",
    targets=TARGETS,
)


def chosen_sentences(n_train: int | None, n_other: int | None) -> pd.DataFrame:
    """Sentences with at least three letters, none in two parts; of each part the first so many by a seeded order."""
    table = pd.read_csv(SENTENCES, keep_default_na=False)
    table = table[table["text"].str.count("[A-Za-z]") >= 3]
    table["folded"] = table["text"].str.lower().str.replace(r"[^a-z]+", " ", regex=True).str.strip()
    table = table.sort_values("split", key=lambda s: s.map({"test": 0, "dev": 1, "train": 2}), kind="stable")
    table = table.drop_duplicates("folded").drop(columns="folded")
    shuffled = table.sample(frac=1, random_state=0)
    parts = [shuffled[shuffled["split"] == part].head(n) for part, n in zip(PARTS, (n_train, n_other, n_other))]  # noqa: B905
    return pd.concat(parts).sort_values("utterance_id").reset_index(drop=True)


def write_spoken_emobank(folder: Path, *, n_train: int | None = None, n_other: int | None = None) -> Path:
    """Synthesise the sentences into ``folder`` as FLAC at 16 kHz and return the manifest, ``emobank.csv``."""
    table, rng = chosen_sentences(n_train, n_other), np.random.default_rng(0)
    train = table[table["split"] == "train"]["arousal"]
    aroused = (table["arousal"] - train.mean()) / train.std(ddof=0)
    voices = [rng.choice(PARTS[part][1]) for part in table["split"]]
    utterances = [utterance_of_arousal(t, v, a, rng) for t, v, a in zip(table["text"], voices, aroused, strict=True)]
    (folder / "flac").mkdir(parents=True, exist_ok=True)
    paths = [f"flac/{name}.flac" for name in table["utterance_id"]]
    for path, (samples, rate) in zip(paths, synthesise(utterances), strict=True):
        waveform = soxr.resample(samples.astype(np.float32) / 32768, rate, RATE)
        soundfile.write(folder / path, waveform, RATE, subtype="PCM_16")
    rows = {
        "utterance_id": table["utterance_id"],
        "path": paths,
        "speaker_id": voices,
        "split": table["split"].map({part: name for part, (name, _) in PARTS.items()}),
        "transcript": table["text"].str.replace(r"\s+", " ", regex=True),
        **{name: table[name] for name in TARGETS},
    }
    manifest = folder / "emobank.csv"
    write_manifest(manifest, pd.DataFrame(rows), HEADER)
    return manifest


if __name__ == "__main__":
    import sys

    print(write_spoken_emobank(Path(sys.argv[1])))
