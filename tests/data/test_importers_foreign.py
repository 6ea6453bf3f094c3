"""What stands in place of the files of a corpus, such as a git-lfs pointer, is named by every importer."""

from __future__ import annotations

import pytest
from helpers.corpus_trees import (
    audformat_database,
    crema_d,
    emobox,
    iemocap,
    msp_conversation,
    msp_improv,
    msp_podcast,
    recola,
)
from helpers.foreign import FOREIGN

from layerprobe.probe.data.importers.registry import import_corpus
from layerprobe.probe.exceptions import InputError

pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")  # audformat's own calls of pandas


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize(
    ("corpus", "make", "name"),
    [
        ("iemocap", iemocap, "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt"),
        ("msp-improv", msp_improv, "Evalution.txt"),
        ("msp-podcast", msp_podcast, "[Ll]abel*/*con[cs]en[cs]us.csv"),
        ("msp-podcast", msp_podcast, "Speaker_ids.txt"),
        ("msp-podcast", msp_podcast, "Partitions.txt"),
        ("recola", recola, "RECOLA-Annotation/emotional_behaviour/valence/P17.csv"),
        ("recola", recola, "RECOLA-Audio_timings/P17.csv"),
        ("msp-conversation", msp_conversation, "Time_Labels/segments.json"),
        ("msp-conversation", msp_conversation, "Annotations/Valence/MSP-Conversation_0021_1_002.csv"),
        ("msp-conversation", msp_conversation, "partitions.txt"),
        ("crema-d", crema_d, "VideoDemographics.csv"),
        ("emobox", emobox, "fold_1/emodb_train_fold_1.jsonl"),
        ("audformat", audformat_database, "db.yaml"),
        ("audformat", audformat_database, "db.emotion.dev.csv"),
    ],
)
def test_what_stands_in_place_of_a_label_file_is_named(tmp_path, corpus, make, name, kind):
    folder = make(tmp_path, "1.6") if make is msp_podcast else make(tmp_path)
    content, _ = FOREIGN[kind]
    path = next(folder.glob(name))
    path.write_bytes(content)
    stated = {"pointer": "a git-lfs pointer", "page": "a web page", "zeros": "zeros alone", "empty": "empty"}[kind]
    with pytest.raises(InputError, match=f"{path.name} is no label file: it .*{stated}"):
        import_corpus(corpus, folder)


@pytest.mark.parametrize(
    ("corpus", "make"),
    [("iemocap", iemocap), ("msp-improv", msp_improv), ("msp-podcast", lambda p: msp_podcast(p, "1.11")),
     ("emobox", emobox), ("audformat", audformat_database), ("recola", recola), ("msp-conversation", msp_conversation)],
)  # fmt: skip
def test_pointers_to_audio_that_was_not_fetched_are_refused(tmp_path, corpus, make):
    folder = make(tmp_path)
    for path in tmp_path.rglob("*.wav"):
        path.write_bytes(FOREIGN["pointer"][0])
    with pytest.raises(InputError, match=r"is a git-lfs pointer, not audio of .*, as are \d+ more\. Fetch the audio"):
        import_corpus(corpus, folder)
