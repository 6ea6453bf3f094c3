"""How often the time of a planted word is found within 100 ms, and how often something is found where nothing is.

Run from the root: ``python tests/benchmarks/planted_word.py FOLDER [N_UTTERANCES] [N_NULL]``. Utterances of eight
words by 24 voices of espeak-ng (tests/helpers/planted_words.py), half of them with one word that is spoken higher, with
more range and louder. Spans are the words, or windows; ratings of spans are 1 for the planted word (for windows: the
fraction of the window that it covers), else 0. The peak of an utterance is that of its held-out predictions
(`probe.time.peak_span`). For the rate without a planted word, each of N_NULL corpora of ratings names a random word in
half of the utterances of a corpus that has none; it is found if the highest score of any layer is above that of all 19
permutations of any layer, whose rate is .05.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))

from helpers.planted_words import PlantedWords, extracted, hit_rate, peaks_of, planted_words, swept

from layerprobe.probe.cache.store import Cache
from layerprobe.probe.results.run_folder import Run

ENCODERS = ("acoustic", "embedded")
SPANS = {"words": None, "windows of 200 ms": (0.1, 0.2), "windows of 400 ms": (0.1, 0.4)}  # every, window


def rated_windows(cache: Cache, corpus: PlantedWords, path: Path) -> Path:
    """Write the fraction of each span of a cache that a planted word covers."""
    spans, nowhere = cache.spans, (0.0, 0.0)
    of = [corpus.planted.get(name, nowhere) for name in spans.parent]
    begin, end = (np.array([times[k] for times in of]) for k in (0, 1))
    covered = np.clip(np.minimum(spans.end, end) - np.maximum(spans.start, begin), 0, None)
    table = pd.DataFrame({"span_id": cache.utterance_ids, "utterance_id": spans.parent})
    rated = table.assign(start=spans.start, end=spans.end, excited=covered / (spans.end - spans.start))
    rated.to_csv(path, index=False)
    return path


def is_found(run: Run) -> bool:
    """Whether the highest score of any layer is above that of every permutation of any layer."""
    rows = run.scores[(run.scores["fold"] == "pooled") & (run.scores["metric"] == "pearson")]
    rows = rows[(rows["probe"] == "ridge") & (rows["baseline"] == "")]
    chance = rows[rows["control"] == "permuted_by_speaker"].groupby("seed")["value"].max()
    return bool(rows[rows["control"] == "none"]["value"].max() > chance.max())


def random_ratings(corpus: PlantedWords, rng: np.random.Generator, path: Path) -> Path:
    """Write ratings that name a random word in half of the utterances."""
    table = pd.read_csv(corpus.spans)
    rows = table.groupby("utterance_id").sample(1, random_state=int(rng.integers(2**31))).index
    table["excited"] = 0.0
    table.loc[rng.permutation(rows)[: len(rows) // 2], "excited"] = 1.0
    table.to_csv(path, index=False)
    return path


def main() -> None:
    folder = Path(sys.argv[1])
    n, n_null = (int(sys.argv[k]) if len(sys.argv) > k else default for k, default in ((2, 200), (3, 40)))
    corpus = planted_words(folder / "planted", n=n, rng=np.random.default_rng(0))
    for encoder in ENCODERS:
        for kind, windows in SPANS.items():
            name = f"{encoder}-{kind.replace(' ', '-')}"
            cache = extracted(corpus, encoder, folder / f"{name}.zarr", windows)
            table = corpus.spans if windows is None else rated_windows(cache, corpus, folder / f"{name}.csv")
            run = swept(cache, corpus, table, folder / name)
            peaks = peaks_of(run)
            with_word = peaks["utterance_id"].isin(list(corpus.planted))
            middle = peaks["deviation"].groupby(with_word).median()
            print(
                f"{encoder}, {kind}: {100 * hit_rate(peaks, corpus.planted):.1f} % within 100 ms; median deviation "
                f"{middle[True]:.1f} with a word, {middle[False]:.1f} without",
                flush=True,
            )
    none = planted_words(folder / "none", n=n, rng=np.random.default_rng(1), fraction=0.0)
    cache, rng, found, low = extracted(none, "acoustic", folder / "none.zarr", None), np.random.default_rng(2), 0, []
    for k in range(n_null):
        run = swept(cache, none, random_ratings(none, rng, folder / f"null-{k}.csv"), folder / f"null-{k}")
        found += is_found(run)
        low.append((peaks_of(run)["p_value"] <= 0.05).mean())
    print(
        f"nothing planted: found in {found} of {n_null} corpora; {100 * np.mean(low):.1f} % of utterances with p <= .05"
    )


if __name__ == "__main__":
    main()
