"""Properties of every importer, on a tree of its corpus."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import soundfile
from helpers.command_line import run as command
from helpers.corpus_trees import (
    audformat_database,
    crema_d,
    emo_db,
    emobox,
    iemocap,
    msp_conversation,
    msp_improv,
    msp_podcast,
    ravdess,
    recola,
)
from helpers.speech_models import save_model, small_model
from helpers.voices import voice

from layerprobe.probe.data.importers.base import write_imported
from layerprobe.probe.data.importers.registry import IMPORTERS, ImportOptions, import_corpus
from layerprobe.probe.data.manifest.read import read_manifest
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas
TREES = {
    "msp-podcast": msp_podcast,
    "iemocap": iemocap,
    "msp-improv": msp_improv,
    "msp-conversation": msp_conversation,
    "recola": recola,
    "crema-d": crema_d,
    "ravdess": ravdess,
    "emo-db": emo_db,
    "emobox": emobox,
    "audformat": lambda root: audformat_database(root / "db"),
}
SECONDS = {"recola": 2.0, "msp-conversation": 4.0}  # of recordings with several utterances


@pytest.mark.parametrize("corpus", list(IMPORTERS))
def test_importing_twice_gives_the_same_bytes_and_opens_no_audio(tmp_path, corpus):
    """The audio files of these trees hold no audio."""
    folder = TREES[corpus](tmp_path / "corpus")
    for name in ("one", "two"):
        result = command("manifest", "import", corpus, folder, "--out", tmp_path / f"{name}.csv")
        assert result.exit_code == 0, result.output
        last = result.stdout.splitlines()[-2]  # followed by the next command
        skipped = r"(none skipped|[\d,]+ skipped: .+ \([\d,]+\))\."
        assert re.fullmatch(
            r"[\d,]+ utterances of [\d,]+ speakers written(, [\d,]+ of them of unknown speakers)?; " + skipped, last
        )
        assert sum(int(n) for n in re.findall(r"\((\d+)\)", last)) == int(
            (re.findall(r"(\d+) skipped", last) or [0])[0]
        )
    for ending in ("csv", "toml"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()
    assert not pd.read_csv(tmp_path / "one.csv")["path"].str.startswith("/").any()


@pytest.mark.parametrize("corpus", list(IMPORTERS))
def test_from_the_folder_to_scores(tmp_path, corpus):
    """Import, check, extract, sweep: on real audio with several speakers each."""
    folder = TREES[corpus](tmp_path / "corpus")
    for k, path in enumerate(sorted((tmp_path / "corpus").rglob("*.wav"))):
        if not path.name.startswith("._"):
            soundfile.write(path, voice(SECONDS.get(corpus, 0.3), pitch=90 + 5 * (k % 20), seed=k), 16_000)
    encoder = save_model(small_model("hubert"), tmp_path / "encoder")
    manifest, cache, out = tmp_path / "my.csv", tmp_path / "c.zarr", tmp_path / "run"
    result = command("manifest", "import", corpus, folder, "--out", manifest, "--probe-audio")
    assert result.exit_code == 0, result.output
    assert "at 16000 Hz" in result.stdout
    targets = read_manifest(manifest)
    one = (targets.targets or tuple(targets.header.nominal))[0]
    for arguments in (
        ("manifest", "validate", manifest),
        ("extract", manifest, "--encoder", encoder, "--out", cache, "--precision", "float32"),
        (
            "sweep",
            cache,
            manifest,
            "--out",
            out,
            "--target",
            one,
            "--folds",
            3,
            "--weighted-sum-seeds",
            0,
            "--permutations",
            1,
        ),
    ):
        result = command(*arguments)
        assert result.exit_code == 0, result.output
    assert (out / "scores.csv").exists()


def test_unreadable_audio_is_counted_with_durations(tmp_path):
    folder = emo_db(tmp_path / "corpus")
    result = command("manifest", "import", "emo-db", folder, "--out", tmp_path / "my.csv", "--probe-audio")
    assert result.exit_code == 0, result.output
    assert "3 audio files can't be read; layerprobe manifest validate --audio names each" in result.stdout


def test_an_unknown_corpus_or_folder_is_refused(tmp_path):
    result = command("manifest", "import", "meld", tmp_path, "--out", tmp_path / "my.csv")
    assert result.exit_code == 2
    assert "corpus 'meld' is unknown; choose one of msp-podcast, iemocap" in result.output
    with pytest.raises(InputError, match="is not a folder"):
        import_corpus("iemocap", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"^manifest import iemocap has no option --fold"):
        import_corpus("iemocap", iemocap(tmp_path), ImportOptions(fold=1))


EXAMPLES = Path(__file__).parents[2] / "data_manifests" / "examples"


@pytest.mark.parametrize("corpus", list(IMPORTERS))
def test_the_examples_are_what_importers_write(tmp_path, corpus):
    write_imported(import_corpus(corpus, TREES[corpus](tmp_path)), tmp_path / f"{corpus}.csv")
    for ending in ("csv", "toml"):
        assert (EXAMPLES / f"{corpus}.{ending}").read_text() == (tmp_path / f"{corpus}.{ending}").read_text()
