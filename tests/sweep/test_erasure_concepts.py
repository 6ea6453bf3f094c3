"""Caches that concepts are read from: those of spans are refused, and no row is read that is not the utterance's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.planted import manifest_of, quick, store
from helpers.span_rows import SPAN_PLAN, write_spans

from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.splits import Split
from layerprobe.probe.sweep.data.concepts import ConceptCache, open_concept_caches
from layerprobe.probe.sweep.data.inputs import make_dataset, row_indices
from layerprobe.probe.sweep.fits.erasure import Erasures
from layerprobe.probe.tasks.concepts import Concept


@pytest.mark.parametrize("form", [str, open_cache, lambda path: ConceptCache(open_cache(path), "")])
def test_a_span_cache_is_refused_and_no_advice_is_to_sweep_in_time(tmp_path, rng, form):
    path = tmp_path / "acoustic.zarr"
    starts = [0.0, 0.5, 0.0, 0.5]
    ends, labels, parents = [0.5, 1.0, 0.5, 1.0], [""] * 4, ["u0", "u0", "u1", "u1"]
    plan = replace(SPAN_PLAN, upstream="acoustic")
    write_spans(path, parents, starts, ends, labels, [1.0] * 4, rng.normal(size=(4, 2, 1, 3)), plan=plan)
    with pytest.raises(InputError, match=r"acoustic.zarr has a row for each span of an utterance, and concepts") as why:
        open_concept_caches([form(path)])
    assert why.value.code == "LP594"
    assert "--by" not in why.value.message


def test_a_sentence_of_each_concept_ends_in_dots_only_if_more_follows_and_names_no_speaker():
    split, rng = Split("0", np.arange(30), np.arange(30, 40), np.arange(30) % 2), np.random.default_rng(0)
    codes, two, three = np.arange(40) % 4, ("female", "male"), ("component 1", "component 2", "component 3")
    concepts = [
        Concept("gender", two, "column gender of the manifest", codes % 2),
        Concept("text", three, "layer 3 of text", rng.normal(size=(40, 5)), components=3),
        Concept("speaker", ("Ann", "Ben", "Cy", "Di"), "column speaker_id of the manifest", codes, of_speakers=True),
    ]
    assert Erasures.of_concepts((), concepts, [split]).notes() == [
        "Concept gender: female, male, from column gender of the manifest.",
        "Concept text: component 1, component 2 …, from layer 3 of text.",
        "Concept speaker: 4 speakers, from column speaker_id of the manifest.",
    ]


def test_a_cache_that_lacks_an_utterance_has_no_row_of_it(tmp_path, rng):
    caches = [store(tmp_path / f"{n}.zarr", rng.normal(size=(n, 5, 3)).astype("f4")) for n in (48, 47)]
    manifest = manifest_of(rng.normal(size=(48, 2)), tmp_path / "m.csv")
    dataset = make_dataset(caches[:1], manifest, quick(manifest))
    assert sorted(row_indices(caches[0], dataset)) == list(range(48))
    with pytest.raises(ValueError, match=r"47\.zarr lacks 1 of 48 utterances, such as u47"):
        row_indices(caches[1], dataset)
