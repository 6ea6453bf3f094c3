"""Runs and caches come back from a folder and from the hub as they were, without what must not be passed on."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.command_line import run as command
from helpers.documented_formats import documented
from helpers.hub_server import TOKEN, local_hub
from helpers.planted import LAYERS, store

from layerprobe.analysis.findings.records import read_findings
from layerprobe.probe.cache.store import open_cache
from layerprobe.probe.cache.verify import differences, verify
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.results.run_folder import read_predictions, read_run, write_run
from layerprobe.sharing.contents import CACHE_FILES, NEVER, RUN_FILES, UNKNOWN, rule_of
from layerprobe.sharing.pull import pull
from layerprobe.sharing.push import push

SECRETS = ("zz-utterance", "zz-speaker", "zz-folder", "zz-transcript")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A local server in place of the hub, with a token that it accepts."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with local_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


@pytest.fixture(scope="module")
def private_run(reported, tmp_path_factory):
    """A run whose ids, speakers, paths and transcripts can be recognised, with all files that one can have."""
    folder = tmp_path_factory.mktemp("zz-folder") / "first"
    run, found = read_run(reported), read_predictions(reported)
    ids = np.array([f"zz-utterance-{k}" for k in range(len(found.utterance_id))])
    speakers = np.array([f"zz-speaker-{name}" for name in found.speaker_id])
    plan = run.plan | {
        "manifest": str(folder / "my.csv"),
        "command": f"layerprobe sweep {folder}/h.zarr --manifest={folder}/my.csv '{folder}/a b.zarr' "
        "--same-speaker zz-speaker-a=zz-speaker-b --out runs/first",
        "sweep": run.plan["sweep"] | {"same_speaker": ["zz-speaker-a=zz-speaker-b", "none"]},
        "shared_audio": {"n_utterances": 2, "examples": [["zz-utterance-1", "zz-utterance-2"]]},
    }
    assert any("/" in entry["path"] for entry in plan["encoders"])  # absolute, of the temporary folder
    row = {"encoder": "hubert", "utterance_id": "zz-utterance-x", "path": f"{folder}/zz-utterance-x.wav"}
    reasons = [f"{row['path']} is silent", "zz-utterance-x.wav has no frame", "too short"]
    reasons.append(f"tar://{folder}/a.tar is cut")
    quarantine = pd.DataFrame([row | {"reason": reason} for reason in reasons])
    errors = pd.DataFrame([{"utterance_id": ids[0], "speaker_id": speakers[0], "n_words": 3}]).assign(
        substitutions=0, deletions=0, insertions=0
    )
    write_run(
        replace(run, plan=plan, quarantine=quarantine, path=folder),
        replace(found, utterance_id=ids, speaker_id=speakers),
        {"word_errors.csv": errors},
    )
    for name in ("findings.json", "similarity.csv"):
        if (reported / name).exists():
            shutil.copy(reported / name, folder / name)
    shutil.copytree(reported / "figures", folder / "figures")
    (folder / "report.html").write_text("zz-speaker-1 scores worst")
    for name in ("notes.csv", "audio/zz-utterance-1.wav", "text/zz-transcript.txt", "figures/zz-speaker.docx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("transcript\nzz-transcript\n")
    return folder


def files_of(folder):
    return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}


def text_of(path):
    if path.suffix == ".parquet":
        return pd.read_parquet(path).to_csv()
    return path.read_bytes().decode("utf-8", "replace")


def url_of(folder):
    return f"file://{folder}"


def test_a_pushed_run_names_no_person_no_path_and_no_transcript(private_run, tmp_path):
    done = push(private_run, url_of(tmp_path / "shared"))
    texts = {name: text_of(path) for name, path in files_of(tmp_path / "shared").items()}
    assert [(name, s) for name, text in texts.items() for s in SECRETS if s in name + text] == []
    assert {"README.md", "layerprobe.json", "plan.toml", "scores.parquet", "figures/heatmap.png"} <= set(texts)
    assert {name for name, _ in done.left_out} >= {"predictions.npz", "word_errors.csv", "report.html", "notes.csv"}
    plan = tomllib.loads(texts["plan.toml"])
    assert plan["command"] == "layerprobe sweep h.zarr --manifest=my.csv 'a b.zarr' --out runs/first"
    assert (plan["manifest"], plan["not_pushed"]) == ("my.csv", ["predictions.npz"])
    assert plan["sweep"]["same_speaker"] == ["none"]
    assert list(pd.read_csv(tmp_path / "shared" / "quarantine.csv")["reason"]) == [
        "… is silent", "… has no frame", "too short", "a.tar is cut",
    ]  # fmt: skip


def test_a_run_comes_back_with_its_numbers_and_states_what_it_lacks(private_run, tmp_path):
    push(private_run, url_of(tmp_path / "shared"))
    done = pull(url_of(tmp_path / "shared"), out=tmp_path / "back")
    assert (done.kind, done.commit, done.not_pushed) == ("run", "", ("predictions.npz",))
    before, after = read_run(private_run), read_run(tmp_path / "back")
    pd.testing.assert_frame_equal(after.scores, before.scores)
    pd.testing.assert_frame_equal(after.layer_weights, before.layer_weights)
    assert after.fingerprint == before.fingerprint
    assert after.sweep_plan.alphas == before.sweep_plan.alphas
    assert read_findings(tmp_path / "back" / "findings.json")
    with pytest.raises(InputError, match=r"^.*back was shared without predictions\.npz, which intervals, .*\[LP883\]$"):
        read_predictions(tmp_path / "back")
    shutil.copy(private_run / "predictions.npz", tmp_path / "back")  # recognised by its digest
    np.testing.assert_array_equal(
        read_predictions(tmp_path / "back").prediction, read_predictions(private_run).prediction
    )


def test_predictions_and_word_errors_are_pushed_when_requested(private_run, tmp_path):
    done = push(private_run, url_of(tmp_path / "shared"), with_predictions=True, with_transcripts=True)
    assert {rule.when for _, rule in done.left_out} == {NEVER}
    pull(url_of(tmp_path / "shared"), out=tmp_path / "back")
    assert "zz-speaker-s00" in read_predictions(tmp_path / "back").speaker_id
    assert list(read_run(tmp_path / "back").quarantine["path"]) == ["zz-utterance-x.wav"] * 4
    texts = {name: text_of(p) for name, p in files_of(tmp_path / "back").items()}
    assert [name for name, text in texts.items() if "zz-folder" in text or "zz-transcript" in text] == []


def test_the_readme_has_numbers_with_intervals_and_shows_names_as_they_are(private_run, tmp_path):
    push(private_run, url_of(tmp_path / "shared"))
    text = (tmp_path / "shared" / "README.md").read_text()
    _, head, body = text.split("---\n", 2)
    assert "layerprobe" in yaml.safe_load(head)["tags"]
    for finding in read_findings(private_run / "findings.json"):
        if finding.name == "cv_selected_layer":
            interval = f"{finding.estimate:.2f} ({finding.ci_low:.2f} to {finding.ci_high:.2f})".replace("-", "−")
            assert interval in body
    assert "(figures/heatmap.png)" in body
    assert "240 utterances of 24 speakers" in body
    assert "<script>" not in body
    assert "layerprobe pull file://" in body
    assert "pip install" not in body  # layerprobe is on no package index
    assert "How to cite" in body


def test_a_cache_comes_back_as_it_was(tmp_path, rng, hub):
    path = store(tmp_path / "h.zarr", rng.normal(size=(30, len(LAYERS), 4))).path
    (path / "extraction" / "quarantine.csv").write_text(
        "utterance_id,path,reason,format_version\nu99,/home/zz-folder/u99.wav,/home/zz-folder/u99.wav is silent,2\n"
    )
    (path / "extraction" / "audio_hashes.csv").write_text("path,size\n/home/zz-folder/u1.wav,1\n")
    push(path, "alice/cache")
    assert "h.zarr/extraction/audio_hashes.csv" not in hub.files("datasets", "alice/cache")
    assert not any(b"zz-folder" in content for content in hub.files("datasets", "alice/cache").values())
    done = pull("alice/cache", out=tmp_path / "back.zarr")
    assert (done.kind, verify(tmp_path / "back.zarr")) == ("cache", [])
    assert differences(open_cache(path), open_cache(tmp_path / "back.zarr")) == []
    assert list(open_cache(tmp_path / "back.zarr").quarantine["reason"]) == ["u99.wav is silent"]


def test_a_cache_of_transcripts_needs_the_option(tmp_path, rng):
    path = store(tmp_path / "text.zarr", rng.normal(size=(8, len(LAYERS), 4)), text_column="transcript").path
    with pytest.raises(InputError, match=r"text\.zarr holds embeddings of transcripts \(column transcript\), .*LP882"):
        push(path, url_of(tmp_path / "shared"))
    assert not (tmp_path / "shared").exists()
    push(path, url_of(tmp_path / "shared"), with_transcripts=True)
    assert (tmp_path / "shared" / "text.zarr" / "zarr.json").exists()


def test_the_hub_gets_a_private_repository_and_only_what_has_changed(private_run, hub, tmp_path):
    first = push(private_run, "alice/study", with_predictions=True)
    assert hub.repos["datasets", "alice/study"].private
    sent = hub.files("datasets", "alice/study")
    assert first.n_sent == first.n_files == len(sent) - 1  # .gitattributes is the hub's
    hub.requests.clear()
    assert push(private_run, "alice/study", with_predictions=True).n_sent == 0
    assert not any(method == "PUT" or "/commit/" in path for method, path in hub.requests)
    again = push(private_run, "alice/study")  # ratings are taken back out of the last commit
    assert "predictions.npz" not in hub.files("datasets", "alice/study")
    assert 0 < again.n_sent < 6
    old = hub.repos["datasets", "alice/study"].commits[1][0]
    assert pull("alice/study", out=tmp_path / "now").not_pushed == ("predictions.npz",)
    with pytest.raises(InputError, match=r"alice/study has no revision 'v1'\. Correct --revision\. \[LP884\]"):
        pull("alice/study", out=tmp_path / "then", revision="v1")
    commits = [commit for commit, files in hub.repos["datasets", "alice/study"].commits if "layerprobe.json" in files]
    assert old not in commits  # the list of the files comes after them
    assert pull("alice/study", out=tmp_path / "then", revision=commits[0]).not_pushed == ()


def test_an_interrupted_push_and_pull_resume(private_run, hub, tmp_path, monkeypatch):
    monkeypatch.setattr("layerprobe.sharing.repositories.FILES_PER_COMMIT", 4)
    commits = []

    def fail_at_third(method, path):
        commits.extend([path] if "/commit/" in path else [])
        return "/commit/" in path and len(commits) == 3

    hub.fail = fail_at_third
    with pytest.raises(
        InputError, match=r"^alice/study at http.* can't be read or written \(.*\)\. Check .*\[LP884\]$"
    ):
        push(private_run, "alice/study")
    there = len(hub.files("datasets", "alice/study")) - 1
    assert there == 8
    hub.fail = lambda method, path: False
    with pytest.raises(InputError, match=r"alice/study holds no run and no cache: it has no layerprobe\.json"):
        pull("alice/study", out=tmp_path / "back")
    done = push(private_run, "alice/study")
    assert done.n_sent == done.n_files - there
    hub.fail = lambda method, path: path.endswith("scores.parquet")
    with pytest.raises(InputError, match=r"\[LP884\]"):
        pull("alice/study", out=tmp_path / "back")
    assert not (tmp_path / "back").exists()
    hub.fail = lambda method, path: False
    pulled = pull("alice/study", out=tmp_path / "back")
    assert 0 < pulled.n_fetched < pulled.n_files
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back"]
    assert not (tmp_path / "back" / ".cache").exists()
    assert pull("alice/study", out=tmp_path / "back").n_fetched == 0


def test_a_file_that_was_changed_there_is_refused(private_run, tmp_path):
    shared = tmp_path / "shared"
    push(private_run, url_of(shared))
    scores = (shared / "scores.csv").read_text()
    (shared / "scores.csv").write_text(scores.replace("0.", "1.", 1))
    with pytest.raises(InputError, match=r"^scores\.csv of file://.* is not what was pushed\. .*\[LP887\]$"):
        pull(url_of(shared), out=tmp_path / "back")
    assert push(private_run, url_of(shared)).n_sent == 1
    pull(url_of(shared), out=tmp_path / "back")
    (tmp_path / "back" / "scores.csv").write_text("")
    with pytest.raises(InputError, match=r"back exists and holds something else\. Name another --out"):
        pull(url_of(shared), out=tmp_path / "back")


@pytest.mark.parametrize(
    "path",
    ["../evil.txt", "/evil.txt", "figures/../../evil.txt", "a\\..\\evil.txt", "./x", "", "a\0b", "\x1b[2J", "\ud800"],
)
def test_a_list_that_leads_out_of_the_folder_is_refused(private_run, tmp_path, path):
    shared = tmp_path / "shared"
    push(private_run, url_of(shared))
    content = json.loads((shared / "layerprobe.json").read_text())
    content["files"][0]["path"] = path
    (shared / "layerprobe.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"layerprobe\.json of file://.* names .*, which is no file of the run"):
        pull(url_of(shared), out=tmp_path / "back")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["shared"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"layerprobe\.json of .* is damaged"),
        (b"[]", r"is damaged"),
        (b'{"format_version": 9}', r"has format version 9; this version of layerprobe reads 1\."),
        (b'{"format_version": 1, "kind": "run", "name": "..", "fingerprint": "", "files": []}', r"names no run"),
        (b'{"format_version": 1, "kind": "run", "name": "a\\u001b", "fingerprint": "", "files": []}', r"names no run"),
        (b'{"format_version": 1, "files": [{"path": "a", "bytes": 1e999, "sha256": ""}]}', r"is damaged"),
        (b"[" * 100_000, r"is damaged"),
    ],
)
def test_another_list_is_refused(tmp_path, content, message):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "layerprobe.json").write_bytes(content)
    with pytest.raises(InputError, match=message + r".*\[LP886\]$"):
        pull(url_of(tmp_path / "shared"), out=tmp_path / "back")


def test_what_does_not_fit_the_disk_is_refused_before_the_transfer(tmp_path):
    listed = {"path": "plan.toml", "bytes": 10**18, "sha256": "0" * 64}
    content = {"format_version": 1, "kind": "run", "name": "first", "fingerprint": "", "files": [listed]}
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "layerprobe.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"holds 1,000,000,000\.0 GB that are not there yet, and .*\[LP840\]$"):
        pull(url_of(tmp_path / "shared"), out=tmp_path / "back")


def test_what_is_neither_a_run_nor_a_cache_is_not_pushed(private_run, tmp_path):
    (tmp_path / "my.csv").write_text("utterance_id,path,arousal\n")
    for path, what in (
        (tmp_path / "my.csv", "is a file"),
        (tmp_path, "has no plan"),
        (tmp_path / "x", "does not exis"),
    ):
        with pytest.raises(InputError, match=rf"is neither a run nor a cache: it {what}.*\[LP885\]"):
            push(path, url_of(tmp_path / "shared"))
    for name in ("study", "a/b/c", "s3://a/b", "file://host", "file:///", "./a"):
        with pytest.raises(InputError, match=r"names no (repository|folder)\. Write it as .*\[LP884\]"):
            push(private_run, name)
    damaged = tmp_path / "damaged"
    shutil.copytree(private_run, damaged)
    (damaged / "predictions.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"predictions\.npz"):
        push(damaged, url_of(tmp_path / "shared"))


@pytest.mark.parametrize("where", ["", "figures", ".."])
def test_a_run_is_not_pushed_onto_itself(private_run, tmp_path, where):
    run = tmp_path / "runs" / "first"
    shutil.copytree(private_run, run)
    before = {name: file.read_bytes() for name, file in files_of(run).items()}
    with pytest.raises(InputError, match=r"^file://.* is where .*first itself lies, .*\[LP884\]$"):
        push(run, url_of((run / where).resolve()))
    assert {name: file.read_bytes() for name, file in files_of(run).items()} == before


def test_a_push_replaces_no_file_of_another(private_run, tmp_path, rng):
    other = tmp_path / "other"
    shutil.copytree(private_run, other)
    before = (other / "plan.toml").read_bytes()
    with pytest.raises(InputError, match=r"has no layerprobe\.json, and its .* would be replaced\. .*\[LP884\]$"):
        push(private_run, url_of(other))
    assert (other / "plan.toml").read_bytes() == before
    caches = [store(tmp_path / name, rng.normal(size=(8, len(LAYERS), 4))).path for name in ("a.zarr", "b.zarr")]
    push(caches[0], url_of(tmp_path / "shared"))
    with pytest.raises(InputError, match=r"holds the cache a\.zarr, whose files would be removed\. .*\[LP884\]$"):
        push(caches[1], url_of(tmp_path / "shared"))
    assert pull(url_of(tmp_path / "shared"), out=tmp_path / "back.zarr").n_files > 0


def test_every_documented_file_has_a_rule():
    files = [file for section in documented() for file in section.files]
    for prefix, rules in (("RUN/", RUN_FILES), ("TRAINED/", RUN_FILES), ("NAME.zarr/", CACHE_FILES)):
        names = [file.removeprefix(prefix) for file in files if file.startswith(prefix)]
        assert len(names) > 3
        assert [name for name in names if rule_of(name.replace("*", "x"), rules) is UNKNOWN] == []


def test_the_commands_print_what_stayed_and_what_is_next(private_run, hub, tmp_path):
    pushed = command("push", private_run, "alice/study")
    assert pushed.exit_code == 0, pushed.output
    assert "alice/study: run of " in pushed.output
    assert "--with-predictions includes it." in pushed.output
    assert "left out: notes.csv (is no file of layerprobe)." in pushed.output
    pulled = command("pull", "alice/study", "--out", tmp_path / "back")
    assert pulled.exit_code == 0, pulled.output
    assert "It was pushed without predictions.npz" in pulled.output
    refused = command("pull", "alice/none")
    assert refused.exit_code == 2
    assert f"alice/none does not exist at {hub.url}, or is private." in refused.output
