"""Layer-wise probing of the embedded encoder on voices and sentences that were not in its training data.

* phones: random sequences of vocabulary, synthesised in the demo's voices; the fractions of vowels, stops,
  fricatives and nasals among their phones (espeak-ng's own transcription), on voices held out
* voice: which of the 24 voices speaks, on the same audio, on vocabulary held out (intervals over sets of vocabulary)
* demo: the planted corpus of `layerprobe demo`
* real: mean F0 and speech rate of LibriSpeech's test-other, on speakers held out, where that material is

Each time the encoder's best layer, the same architecture with random weights at its best, and MFCC statistics; the
differences are paired, their 95 % intervals (BCa) over speakers. The best layer is the best on the same scores, so its
differences are a little too good; a second column has the middle layer, which was fixed beforehand.
"""

from __future__ import annotations

import argparse
import ctypes
import os
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from helpers.measured_targets import LIBRISPEECH, write_measured_manifest

from layerprobe.analysis.statistics.bootstrap_scores import BootstrapScores, bootstrap_scores
from layerprobe.probe.cache.store import Cache, open_cache
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.data.manifest.schema import Header, Manifest, Nominal, Target
from layerprobe.probe.data.manifest.write import write_manifest
from layerprobe.probe.encoders.loading import load_encoder
from layerprobe.probe.extraction.extract import extract
from layerprobe.probe.results.run_folder import read_predictions
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep
from layerprobe.probe.synthesis.demo_corpus import VOICES, write_corpus
from layerprobe.probe.synthesis.espeak import Utterance, synthesise

MIDDLE = "4"
PER_VOICE, TERMS_PER_TEXT = 16, 4
VOCABULARY = (
    "apple basket candle doctor engine finger glass hammer island jacket kitchen lemon mirror needle ocean pencil "
    "quarter river shadow thunder uncle village window yellow zebra bridge cloud dragon feather giant honey insect "
    "jungle knife ladder mountain nephew orchard pillow queen rabbit school temple umbrella voyage whistle box youth "
    "chimney blanket copper daughter eagle forest ghost harvest iron judge kettle lizard machine nurse onion paper "
    "question ring sister tiger under valley weather year zone bubble cheese dish earth fish garlic house measure"
).split()
PHONES = {
    "vowels": "aeiouæɑɐɒɔəɚɛɜɝɪʊʌᵻ",
    "stops": "pbtdkɡɾʔ",
    "fricatives": "fvθðszʃʒh",
    "nasals": "mnŋ",
}
SYNCHRONOUS, UTF8, IPA = 2, 1, 2  # of espeak-ng's interface


def phones_of(texts: list[str]) -> list[str]:
    """IPA letters of each, as espeak-ng reads it in American English."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    library.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
    library.espeak_SetVoiceByName(b"en-us")
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    transcriptions = []
    for text in texts:
        at = ctypes.c_char_p(text.encode())
        transcriptions.append(library.espeak_TextToPhonemes(ctypes.byref(at), UTF8, IPA).decode())
    return transcriptions


def write_corpora(folder: Path) -> tuple[Path, Path]:
    """Return manifests of the same audio: phones on voices held out, and voices on vocabulary held out."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(VOCABULARY, size=TERMS_PER_TEXT, replace=False)) for _ in range(PER_VOICE)]
    rows, utterances = [], []
    for v, voice in enumerate(VOICES):
        for k in range(PER_VOICE):
            # half of the sentences are unique to a voice, half are spoken by all: voices differ on equal text
            text = texts[k] if k % 2 else " ".join(rng.choice(VOCABULARY, size=TERMS_PER_TEXT, replace=False))
            name = f"v{v:02d}_{k:02d}"
            rows.append({"utterance_id": name, "path": f"{name}.wav", "speaker_id": voice, "transcript": text})
            rate, pitch = (int(rng.integers(*bounds)) for bounds in ((140, 200), (35, 60)))
            utterances.append(Utterance(text, voice, rate=rate, pitch=pitch))
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame(rows)
    for path, (samples, rate) in zip(table["path"], synthesise(utterances), strict=True):
        soundfile.write(folder / path, samples, rate)
    spoken = phones_of(table["transcript"].tolist())
    for name, letters in PHONES.items():
        every = "".join(PHONES.values()) + "lɹwj"
        table[name] = [sum(c in letters for c in t) / sum(c in every for c in t) for t in spoken]
    about = {"corpus": "vocabulary", "version": "1", "licence": "Apache-2.0; spoken by espeak-ng"}
    targets = {name: Target(0, 1, f"fraction of {name} among the phones") for name in PHONES}
    write_manifest(folder / "phones.csv", table, Header(**about, targets=targets))
    own = table.assign(
        voice=table["speaker_id"], speaker_id=[f"vocabulary {name[-2:]}" for name in table["utterance_id"]]
    )
    kinds = {"voice": Nominal(tuple(VOICES), "who speaks")}
    write_manifest(folder / "voices.csv", own.drop(columns=list(PHONES)), Header(**about, targets={}, nominal=kinds))
    return folder / "phones.csv", folder / "voices.csv"


def caches(manifest: Manifest, folder: Path) -> tuple[Cache, Cache, Cache]:
    """Return caches of a manifest's audio: trained weights, random weights, acoustic features."""
    found = []
    kinds = (("trained", "embedded", None), ("random", "embedded", 0), ("acoustic", "acoustic", None))
    for name, upstream, seed in kinds:
        path = folder / f"{name}.zarr"
        extract(manifest, load_encoder(upstream, random_init=seed), path)
        found.append(open_cache(path))
    return found[0], found[1], found[2]


def judge(manifest: Manifest, folder: Path, *, metric: str, run: str) -> pd.DataFrame:
    """A row for each target: the encoder, random weights, MFCC, and the differences with their intervals."""
    trained, random, acoustic = caches(manifest, folder)
    out = folder / run
    plan = plan_sweep(manifest, permutations=1, weighted_sum_seeds=0)
    sweep([trained, acoustic], manifest, plan, out=out, random_weights=[random])
    scores = bootstrap_scores(read_predictions(out), metric=metric)
    names = [*manifest.header.targets, *manifest.header.nominal]
    targets = [t for t in names if t in set(scores.keys["target"])]
    return pd.DataFrame([_scores_of(scores, target, trained.plan.layers) for target in targets])


def _scores_of(scores: BootstrapScores, target: str, layers: tuple[str, ...]) -> dict[str, str | float]:
    def ridge(encoder: str, names: tuple[str, ...], control: str = "none"):
        found = scores.of(names, encoder=encoder, control=control, probe="ridge", target=target)
        assert found is not None
        return found

    ours, random, mfcc = (
        ridge("embedded", layers), ridge("embedded", layers, "random_init"), ridge("acoustic", ("mfcc",))
    )  # fmt: skip
    best, other = int(ours.estimate.argmax()), int(random.estimate.argmax())
    row: dict[str, str | float] = {"target": target, "layer": layers[best], "score": float(ours.estimate[best])}
    row |= {"random": float(random.estimate[other]), "mfcc": float(mfcc.estimate[0])}
    for name, k in (("best", best), ("middle", layers.index(MIDDLE))):
        for against, theirs in (("random", random[[other]]), ("mfcc", mfcc)):
            (e,) = (ours[[k]] - theirs).estimated()
            row[f"{name} − {against}"] = f"{e.estimate:+.3f} [{e.ci_low:+.3f}, {e.ci_high:+.3f}]"
    return row


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("/tmp/embedded_encoder"))
    out = parser.parse_args().out
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    phones, voices = write_corpora(out / "vocabulary")
    rows = [judge(read_manifest(phones), out / "vocabulary", metric="ccc_matched", run="phones")]
    rows.append(judge(read_manifest(voices), out / "vocabulary", metric="uar", run="voices"))
    demo = read_manifest(write_corpus(out / "demo"))
    rows.append(judge(demo, out / "demo", metric="ccc_matched", run="planted"))
    if LIBRISPEECH.exists():
        (out / "libri").mkdir(exist_ok=True)
        whole = read_manifest(write_measured_manifest(out / "libri" / "all.csv"))
        table = whole.table[whole.table["subset"] == "test-other"].reset_index(drop=True)
        targets = {k: t for k, t in whole.header.targets.items() if k != "loudness"}
        path = out / "libri" / "test-other.csv"
        write_manifest(path, table, Header(**{**vars(whole.header), "targets": targets}))
        rows.append(judge(read_manifest(path), out / "libri", metric="ccc_matched", run="measured"))
    print(pd.concat(rows).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
