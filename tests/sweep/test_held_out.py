"""What folds hold out: groups of any column with their speakers, and recordings that have several ids."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.checks import objections
from helpers.command_line import refused, run as command
from helpers.planted import DIM, TARGETS, manifest_of, quick, store
from helpers.voices import write_table
from scipy.sparse.csgraph import connected_components
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut, cross_val_predict

from layerprobe.analysis.findings.methods import methods_paragraph
from layerprobe.analysis.statistics.bootstrap_scores import bootstrap_scores
from layerprobe.analysis.study import study
from layerprobe.figures.report.sections import make_sections
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.metrics import ccc
from layerprobe.probe.results.run_folder import POOLED, read_predictions, read_run
from layerprobe.probe.splits import joined_units
from layerprobe.probe.sweep.data.inputs import make_dataset
from layerprobe.probe.sweep.settings import plan_sweep
from layerprobe.probe.sweep.sweep import sweep

N = 120
QUICK = ("--permutations", 2, "--weighted-sum-seeds", 0, "--out")


def corpus(folder, **columns):
    """A cache of random embeddings and a manifest of random ratings with these columns."""
    rng = np.random.default_rng(4)
    cache = store(folder / "a.zarr", rng.normal(size=(N, 2, DIM)), layers=("0", "1"))
    columns = {"speaker_id": np.array([f"s{i % 10}" for i in range(N)], dtype=object)} | columns
    return cache, manifest_of(rng.normal(size=(N, 2)), folder / "my.csv").table.assign(**columns)


def planned(folder, *, options=(), **columns):
    cache, table = corpus(folder, **columns)
    manifest = manifest_of(table[list(TARGETS)].to_numpy(), folder / "my.csv", **{c: table[c] for c in columns})
    manifest = type(manifest)(manifest.path, manifest.header, table)
    plan = plan_sweep(manifest, caches=[cache], **dict(options))
    return cache, manifest, plan


SESSIONS = np.array([f"Ses0{i % 10 // 2 + 1}" for i in range(N)])  # two speakers each, as in IEMOCAP
SENTENCES = np.array([f"DFA{i // 10 % 4}" for i in range(N)])  # each by all speakers, as in CREMA-D


def test_joined_units_are_the_connected_components(rng):
    for n_labels in (3, 20, 60):
        labels = rng.integers(n_labels, size=(3, 40))
        adjacent = (labels[:, :, None] == labels[:, None]).any(axis=0)
        expected = connected_components(adjacent)[1]
        found = joined_units(*labels)
        assert ((found[:, None] == found) == (expected[:, None] == expected)).all()
    alone = np.array([7, 3, 3, 9])
    assert joined_units(alone, np.array([0, 1, 1, 2])) is alone  # nothing joined, nothing renumbered


def test_leaving_one_session_out_is_that_of_scikit_learn(tmp_path):
    cache, manifest, plan = planned(tmp_path, session=SESSIONS, options={"group_by": "session", "leave_one_out": True})
    assert (plan.n_folds, plan.group_by, plan.shared_speakers) == (5, "session", False)
    data = make_dataset([cache], manifest, plan).data
    sessions = manifest.table.set_index("utterance_id")["session"][data.utterance_ids].to_numpy()
    expected = {tuple(test) for _, test in LeaveOneGroupOut().split(sessions, groups=sessions)}
    assert {tuple(split.test) for split in data.splits} == expected
    for split in data.splits:  # inner folds hold out whole sessions, too
        inner = pd.Series(split.inner_folds).groupby(sessions[split.train]).nunique()
        assert (inner == 1).all()
        assert len(np.unique(split.inner_folds)) == 4


@pytest.mark.parametrize("n_folds", [2, 3, 4])
def test_folds_of_sessions_are_disjoint_and_cover_all_as_those_of_scikit_learn(tmp_path, n_folds):
    cache, manifest, plan = planned(tmp_path, session=SESSIONS, options={"group_by": "session", "folds": n_folds})
    data = make_dataset([cache], manifest, plan).data
    sessions = manifest.table.set_index("utterance_id")["session"][data.utterance_ids].to_numpy()
    ours, theirs = (
        [(set(sessions[train]), set(sessions[test])) for train, test in pairs]
        for pairs in (
            [(s.train, s.test) for s in data.splits],
            GroupKFold(n_folds).split(sessions, groups=sessions),
        )
    )
    assert len(ours) == n_folds
    for folds in (ours, theirs):
        assert all(not train & test for train, test in folds)
        assert sorted(name for _, test in folds for name in test) == sorted(set(SESSIONS))
    assert sorted(len(test) for _, test in ours) == sorted(len(test) for _, test in theirs)
    assert sorted(np.concatenate([s.test for s in data.splits])) == list(range(N))


def test_speakers_in_two_sessions_join_them(tmp_path):
    guests = SESSIONS.copy()
    guests[0] = "Ses02"  # s0, of Ses01
    cache, manifest, plan = planned(tmp_path, session=guests, options={"group_by": "session", "leave_one_out": True})
    assert plan.n_folds == 4
    dataset = make_dataset([cache], manifest, plan)
    assert dataset.units["held_out"] == {
        "unit": "session", "n_groups": 5, "n_units": 4, "n_largest": 48, "n_shared_speakers": 0
    }  # fmt: skip
    assert dataset.notes == (
        "The 5 values of session are joined to 4 units by 1 speaker with utterances in several values of session (s0 "
        "in 2); the largest has 48 of 120 utterances.",
        "Folds hold out session: 5 values, 10 speakers, each in one.",
    )
    for split in dataset.data.splits:
        assert not set(dataset.data.groups[split.train]) & set(dataset.data.groups[split.test])
    with pytest.raises(
        InputError,
        match=r"^The 5 values of session are joined to 4 units by 1 speaker .* \(s0 in 2\), too few for 5 folds\. Use "
        r"--allow-shared-speakers to hold out session alone, or ask for fewer folds\. \[LP\d{3}\]$",
    ):
        planned(tmp_path / "b", session=guests, options={"group_by": "session", "folds": 5})


def test_sentences_of_all_speakers_are_refused_until_speakers_may_be_shared(tmp_path):
    with pytest.raises(
        InputError,
        match=r"^The 4 values of sentence are joined to 1 unit by 10 speakers with utterances in several values of "
        r"sentence \(s0 in 4\), too few for 2 folds\. Use --allow-shared-speakers to hold out sentence alone\. "
        r"\[LP\d{3}\]$",
    ):
        planned(tmp_path, sentence=SENTENCES, options={"group_by": "sentence"})
    options = {"group_by": "sentence", "allow_shared_speakers": True}
    cache, manifest, plan = planned(tmp_path / "b", sentence=SENTENCES, options=options)
    assert plan.n_folds == 4  # by default five, or as many as there are sentences
    dataset = make_dataset([cache], manifest, plan)
    sentences = manifest.table.set_index("utterance_id")["sentence"][dataset.data.utterance_ids].to_numpy()
    for split in dataset.data.splits:
        assert not set(sentences[split.train]) & set(sentences[split.test])
    assert dataset.units["held_out"]["n_shared_speakers"] == 10
    assert dataset.notes == ("Folds hold out sentence: 4 values, 10 speakers, 10 of them in several.",)


def test_of_two_sentences_one_trains_and_its_inner_folds_hold_out_speakers(tmp_path):
    two = np.array([f"{i // 10 % 2}" for i in range(N)])  # as in RAVDESS
    options = {"group_by": "sentence", "allow_shared_speakers": True}
    cache, manifest, plan = planned(tmp_path, sentence=two, options=options)
    data = make_dataset([cache], manifest, plan).data
    assert len(data.splits) == 2
    for split in data.splits:
        assert (pd.Series(split.inner_folds).groupby(data.groups[split.train]).nunique() == 1).all()
        assert len(np.unique(split.inner_folds)) == plan.n_inner_folds == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": "booth"}, r"The manifest has no column booth to group by; it has utterance_id, .*"),
        ({"group_by": "session", "folds": 6},
         r"session has 5 values among the utterances that are probed, too few for 6 folds\. Ask for fewer folds, or "
         r"group by another column\."),
        ({"group_by": "gaps"},
         r"2 of 120 utterances that are probed have no gaps, u0 first\. Write it for each, or leave these rows out\."),
        ({"group_by": "cases"}, r"cases 'Ses01' and 'ses 01' differ in case, spaces or Unicode form only\. .*"),
        ({"allow_shared_speakers": True}, r"--allow-shared-speakers needs --group-by: without it, folds hold out .*"),
        ({"leave_one_out": True, "folds": 5}, r"--leave-one-out and --folds exclude each other: .*"),
        ({"group_by": "session", "folds": "speakers"}, r"--folds speakers and --group-by session exclude each .*"),
        ({"group_by": "session", "test_split": "test"}, r"--group-by session and --test-split exclude each other: .*"),
        ({"duplicates": "keep"}, r"choice for duplicates 'keep' is unknown; choose from group, drop, error\."),
    ],
)  # fmt: skip
def test_what_can_not_be_held_out_is_refused_in_one_sentence(tmp_path, options, message):
    gaps, cases = SESSIONS.astype(object), SESSIONS.astype(object)
    gaps[[0, 7]] = "", " unknown "
    cases[2:4] = "Ses01", "ses 01"
    with pytest.raises(InputError, match=f"^{message} \\[LP\\d{{3}}\\]$"):
        planned(tmp_path, session=SESSIONS, gaps=gaps, cases=cases, options=options)


def test_grouping_by_the_speaker_is_the_default_and_leaving_one_out_holds_out_each(tmp_path):
    cache, manifest, plan = planned(tmp_path, options={"group_by": "speaker_id"})
    assert plan == plan_sweep(manifest)
    assert plan_sweep(manifest, leave_one_out=True, caches=[cache]) == plan_sweep(manifest, folds="speakers")


def test_a_grouped_run_states_its_protocol_and_its_intervals_are_over_groups(tmp_path, monkeypatch):
    (tmp_path / "x.wav").touch()
    cache, table = corpus(tmp_path, session=SESSIONS)
    table = table[["utterance_id", "path", "speaker_id", "session", "arousal"]]
    path = write_table(
        tmp_path, table.assign(arousal=4 + table["arousal"].clip(-2.9, 2.9), split="train").to_dict("records")
    )
    out = tmp_path / "run"
    done = command("sweep", cache.path, path, *QUICK, out, "--group-by", "session", "--leave-one-out")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"--group-by session replaces the split in {path} (train).\n")
    assert "Folds hold out session: 5 values, 10 speakers, each in one." in done.stderr
    run, predictions = read_run(out), read_predictions(out)
    assert (run.plan["sweep"]["group_by"], run.plan["sweep"]["n_folds"]) == ("session", 5)
    assert run.plan["held_out"]["n_units"] == 5
    sessions = table.set_index("utterance_id")["session"][predictions.utterance_id].to_numpy()
    assert (pd.Series(predictions.fold).groupby(sessions).nunique() == 1).all()
    by_hand = type(predictions)(**{**vars(predictions), "speaker_id": sessions, "unit": np.array([], dtype=str)})
    ours, expected = (bootstrap_scores(p, metric="ccc", n_resamples=200) for p in (predictions, by_hand))
    assert ours.n_speakers == 5
    np.testing.assert_allclose(ours.scores.resamples, expected.scores.resamples)
    found = study(out)
    assert (
        "scored in cross-validation leaving one session out (5 sessions, 10 speakers, none of them in several)"
        in methods_paragraph(found)
    )
    assert "resamples of sessions," in methods_paragraph(found)
    assert any("Only 5 sessions were held out" in text for text in objections(found))
    texts = [text for section in make_sections(found, []) for text in section.text]
    assert any("95 % CI over sessions" in text for text in texts)
    assert not any("resamples of the speakers" in text for text in texts)
    # the same sessions again are the same run, others are another one
    assert command("sweep", "--plan", out, "--out", tmp_path / "again", "--quiet").exit_code == 0
    assert read_run(tmp_path / "again").fingerprint == run.fingerprint
    assert (tmp_path / "again" / "predictions.npz").read_bytes() == (out / "predictions.npz").read_bytes()
    edited = pd.read_csv(path, dtype=str).assign(session=np.roll(SESSIONS, 1))
    edited.to_csv(path, index=False)
    assert "holds another run" in refused("sweep", "--plan", out, "--out", out, "--quiet")


def test_the_report_of_a_split_names_it(tmp_path):
    cache, manifest, _ = planned(tmp_path, split=np.where(np.arange(N) % 10 < 7, "train", "test"))
    sweep([cache], manifest, quick(manifest), out=tmp_path / "run")
    assert "the split of the corpus, with test held out" in methods_paragraph(study(tmp_path / "run"))


def doubled(folder, *, twin_speakers=True, ratings=None, **columns):
    """Sixty recordings, each under two ids, with random ratings that the copies have in common."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2, 60)), rng.normal(size=(60, 2))
    cache = store(folder / "a.zarr", np.concatenate([x, x]), layers=("0", "1"))
    speakers = [f"s{i % 12}" for i in range(60)]
    speakers += [f"film of {s}" for s in speakers] if twin_speakers else speakers
    table = {"speaker_id": np.array(speakers, dtype=object), **columns}
    manifest = manifest_of(np.concatenate([y, y]) if ratings is None else ratings(y), folder / "my.csv")
    return cache, type(manifest)(manifest.path, manifest.header, manifest.table.assign(**table))


def pooled_ccc(run):
    rows = run.scores[(run.scores["fold"] == POOLED) & (run.scores["metric"] == "ccc")]
    rows = rows[(rows["control"] == "none") & (rows["probe"] == "ridge")]
    return rows.groupby("target")["value"].max()


def test_random_ratings_of_recordings_with_two_ids_are_not_predicted(tmp_path):
    cache, manifest = doubled(tmp_path)
    x, y = cache.read_layer("0"), manifest.table.set_index("utterance_id").loc[cache.utterance_ids, "valence"]
    speakers = manifest.table.set_index("utterance_id").loc[cache.utterance_ids, "speaker_id"]
    before = cross_val_predict(Ridge(0.1), x, y, groups=speakers, cv=LeaveOneGroupOut())
    assert ccc(y.to_numpy(), before) > 0.4  # what speaker-disjoint folds alone claim
    for policy, n in (("group", 120), ("drop", 60)):
        run = sweep([cache], manifest, quick(manifest, duplicates=policy), out=tmp_path / policy)
        assert pooled_ccc(run).max() < 0.25
        assert run.plan["corpus"]["n_utterances"] == n
        assert run.plan["shared_audio"] == {
            "duplicates": policy, "n_utterances": 120, "n_recordings": 60, "n_across_speakers": 120,
            "n_other_ratings": 0, "examples": ["u0 and u60", "u1 and u61", "u10 and u70"], "n_left_out": 120 - n,
        }  # fmt: skip
    predictions = read_predictions(tmp_path / "group")
    recording = np.array([int(name[1:]) % 60 for name in predictions.utterance_id])
    assert (pd.Series(predictions.fold).groupby(recording).nunique() == 1).all()
    assert len(set(predictions.unit)) == 12  # in intervals a speaker and his film are one
    (text,) = [t for t in objections(study(tmp_path / "group")) if "same audio" in t]
    assert text == (
        "120 utterances have the same audio as another one (60 recordings, first u0 and u60; 120 of them under several "
        "speakers): all utterances with the same audio are in the same fold."
    )
    with pytest.raises(InputError, match=r"^120 utterances have the same audio as another one .*: u0 and u60; u1 and "):
        make_dataset([cache], manifest, plan_sweep(manifest, duplicates="error"))


def test_copies_of_one_speaker_are_counted_and_change_no_fold(tmp_path):
    cache, manifest = doubled(tmp_path, twin_speakers=False)
    dataset = make_dataset([cache], manifest, plan_sweep(manifest))
    assert dataset.notes == (
        "120 utterances have the same audio as another one (60 recordings, first u0 and u60): all utterances with the "
        "same audio are in the same fold (--duplicates group).",
    )
    assert dataset.data.units is None


def test_copies_with_other_ratings_are_named_and_never_dropped(tmp_path):
    cache, manifest = doubled(
        tmp_path, ratings=lambda y: np.concatenate([y, np.where(np.arange(60)[:, None] < 3, -y, y)])
    )
    (note, _) = make_dataset([cache], manifest, plan_sweep(manifest)).notes
    assert "120 of them under several speakers; 6 of them with other ratings" in note
    with pytest.raises(
        InputError,
        match=r"^u0 and u60 have the same audio and other ratings, so it is not known which to keep\. Correct the "
        r"manifest, or use --duplicates group\. \[LP\d{3}\]$",
    ):
        make_dataset([cache], manifest, plan_sweep(manifest, duplicates="drop"))


def test_of_a_fixed_split_the_training_copies_are_left_out(tmp_path):
    split = np.concatenate([np.where(np.arange(60) % 12 < 8, "train", "test"), np.repeat("development", 60)])
    split[68:70] = "train"  # copies of two of the test set
    cache, manifest = doubled(tmp_path, split=split)
    dataset = make_dataset([cache], manifest, plan_sweep(manifest))
    (parts,) = dataset.data.splits
    assert (len(parts.train), len(parts.test)) == (40, 20)
    assert dataset.units["shared_audio"]["n_left_out"] == 2
    assert not {"u68", "u69"} & set(dataset.data.utterance_ids)


def test_too_many_joined_speakers_are_refused_with_what_joined_them(tmp_path):
    cache, manifest = doubled(tmp_path)
    chained = manifest.table.assign(
        speaker_id=[f"s{i % 12}" for i in range(60)] + [f"s{(i + 1) % 12}" for i in range(60)]
    )
    with pytest.raises(
        InputError,
        match=r"^The 12 speakers are joined to 1 unit by recordings with several ids, too few for 5 folds\. Use "
        r"--duplicates drop\. \[LP\d{3}\]$",
    ):
        make_dataset([cache], type(manifest)(manifest.path, manifest.header, chained), plan_sweep(manifest))


def test_unknown_speakers_with_the_same_recording_are_one(tmp_path):
    cache, manifest = doubled(tmp_path)
    manifest = type(manifest)(manifest.path, manifest.header, manifest.table.assign(speaker_id="Unknown"))
    data = make_dataset([cache], manifest, plan_sweep(manifest, speakers=False)).data
    recording = np.array([int(name[1:]) % 60 for name in data.utterance_ids])
    for split in data.splits:
        assert not set(recording[split.train]) & set(recording[split.test])
