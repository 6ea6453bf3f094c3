"""A dataset that is given in place of a manifest is refused with the command that imports it."""

from __future__ import annotations

import re

import pytest
from helpers.command_line import refused
from helpers.corpus_trees import write
from helpers.dataset_trees import hf_parquet

from layerprobe.probe.data.manifest.read import read_utterances
from layerprobe.probe.exceptions import InputError


def test_a_table_of_a_dataset_given_as_a_manifest_names_the_command_that_imports_it(tmp_path):
    file = hf_parquet(tmp_path / "hub") / "data" / "train-00000-of-00001.parquet"
    expected = f"{file} is a table of a Hugging Face dataset, with its audio in column audio. Import it: layerprobe "
    expected += f"manifest import hf {file} --out train-00000-of-00001.csv."
    assert expected in refused("manifest", "init", file)
    with pytest.raises(InputError, match=re.escape(expected)):
        read_utterances(file)  # as extract does
    write(file.with_suffix(".toml"), 'corpus = "x"\n[targets.arousal]\nminimum = 1\nmaximum = 7\n')
    assert expected in refused("manifest", "validate", file)


@pytest.mark.parametrize(
    ("name", "importer"), [("cuts.jsonl.gz", "lhotse"), ("shard-0.tar", "webdataset"), ("a.arrow", "hf")]
)
def test_other_sources_given_as_a_manifest_name_the_command_that_imports_them(tmp_path, name, importer):
    path = write(tmp_path / name)
    message = refused("manifest", "validate", path)
    assert f"{path} is neither .csv nor .parquet. Import it: layerprobe manifest import {importer} {path}" in message
    folder = hf_parquet(tmp_path / "hub")
    assert f"Import it: layerprobe manifest import hf {folder} --out hub.csv." in refused(
        "manifest", "validate", folder
    )
