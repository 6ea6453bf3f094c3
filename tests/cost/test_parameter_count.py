"""Counts of parameters: published totals from configurations alone, parts that sum, multiply-adds by hand."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from helpers.command_line import run as command
from helpers.speech_models import KINDS
from helpers.text_models import TEXT_KINDS, small_text_model
from transformers import DistilBertConfig, HubertConfig

from layerprobe.probe.cost.parameter_count import (
    REFERENCE_RULE,
    RULES,
    ModelSpec,
    combined,
    count_parameters,
    count_tokens,
    load_model_spec,
    parameter_table,
    real_time_factors,
)
from layerprobe.probe.encoders.loading import load_audio_encoder
from layerprobe.probe.encoders.text import load_text_encoder
from layerprobe.probe.exceptions import InputError
from layerprobe.probe.regressor.default_head import make_head

PUBLISHED = {
    "hubert-large": (
        HubertConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            do_stable_layer_norm=True,
            feat_extract_norm="layer",
            conv_bias=True,
        ),
        315_438_720,
        4_210_176,
    ),
    "hubert-base": (HubertConfig(), 94_371_712, 4_200_448),
    "distilhubert": (HubertConfig(num_hidden_layers=2, feat_proj_layer_norm=False), 23_491_968, 4_200_448),
    "distilbert": (DistilBertConfig(), 66_362_880, 0),
}


@pytest.fixture(scope="module")
def configurations(tmp_path_factory):
    """Folders that hold a configuration and nothing else."""
    root = tmp_path_factory.mktemp("configurations")
    for name, (config, _, _) in PUBLISHED.items():
        config.save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def accounts(configurations):
    return {name: count_parameters(load_model_spec(str(configurations / name))) for name in PUBLISHED}


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_totals_are_reproduced_from_configurations_alone(accounts, name):
    _, total, front_end = PUBLISHED[name]
    assert accounts[name].total == total
    assert accounts[name].parts["front_end"] == front_end


def test_the_fifth_of_the_paper_holds_under_one_rule_and_not_under_others(accounts):
    """DistilHuBERT without its front end and DistilBERT's blocks over HuBERT-large without its front end."""
    small, text, large = (accounts[name] for name in ("distilhubert", "distilbert", "hubert-large"))
    both = combined(small, text, torch.nn.Identity())
    assert both.trainable("front end and embeddings frozen") == 61_818_752
    assert large.trainable(REFERENCE_RULE) == 311_228_544
    percentages = {rule: round(100 * both.fraction_of(large, rule), 1) for rule in RULES}
    assert percentages == {"everything": 28.9, "front end frozen": 27.5, "front end and embeddings frozen": 19.9}


def described(kind):
    if kind in TEXT_KINDS:
        return ModelSpec(kind, small_text_model(kind).config, True)
    return ModelSpec(kind, KINDS[kind][0], False)


@pytest.mark.parametrize("kind", [*KINDS, *TEXT_KINDS])
def test_parts_sum_to_what_the_encoder_is_made_of(folders, tmp_path, kind):
    model = described(kind)
    found = count_parameters(model)
    if kind in TEXT_KINDS:
        from helpers.text_models import save_text_model

        encoder = load_text_encoder(str(save_text_model(kind, tmp_path / kind)))._model
        total = sum(p.numel() for n, p in encoder.named_parameters() if not n.startswith("pooler."))
    else:
        total = sum(p.numel() for p in load_audio_encoder(str(folders[kind]))._encoder.parameters())
    assert found.total == total
    assert found.parts["blocks"] > 0.2 * total
    if kind not in TEXT_KINDS and kind != "wav2vec2-bert":
        assert found.parts["front_end"] > 0
        assert found.parts["projection"] > 0
    assert (found.parts["embeddings"] > 0) == (kind in TEXT_KINDS)


def test_multiply_adds_by_hand():
    """Of a small HuBERT: 7 convolutions, the projection, the positional convolution, 3 blocks of attention and MLP."""
    config = KINDS["hubert"][0]
    n_samples, by_hand, channels = 2 * 16_000, 0, 1
    for out, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        n_samples = (n_samples - kernel) // stride + 1
        by_hand += n_samples * out * channels * kernel
        channels = out
    n, width, inner = n_samples, config.hidden_size, config.intermediate_size
    by_hand += n * channels * width
    kernel, groups = config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups
    by_hand += (n + 1) * width * (width // groups) * kernel  # one frame more, which an even kernel makes and drops
    by_hand += config.num_hidden_layers * (4 * n * width**2 + 2 * n * n * width + 2 * n * width * inner)
    assert count_parameters(described("hubert"), amount=2).multiply_adds == by_hand


def test_multiply_adds_of_text_by_hand():
    config, n = small_text_model("bert").config, 12
    width, inner = config.hidden_size, config.intermediate_size
    by_hand = config.num_hidden_layers * (4 * n * width**2 + 2 * n * n * width + 2 * n * width * inner)
    assert count_parameters(described("bert"), amount=n).multiply_adds == by_hand


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_speech_family_has_a_cost(kind):
    assert count_parameters(described(kind), amount=1).multiply_adds > 1e5


def test_the_head_is_that_of_the_regressor(folders, tmp_path):
    from helpers.regressors import audio_branch, text_branch
    from helpers.text_models import save_text_model

    from layerprobe.probe.regressor.model import AudioTextRegressor

    text = save_text_model("distilbert", tmp_path / "distilbert")
    regressor = AudioTextRegressor(
        audio_branch(folders["hubert"]), text_branch(text), n_targets=3, pooling="attentive", fusion="concatenation",
        hidden=256, dropout=0.5,
    )  # fmt: skip
    head = make_head(load_model_spec(str(folders["hubert"])), load_model_spec(str(text)))
    assert sum(p.numel() for p in head.parameters()) == sum(p.numel() for p in regressor.head_parameters())


def test_a_real_time_factor_is_the_median_of_rounds_over_the_duration():
    ticks = iter([0, 9, 9, 18, 0, 2, 10, 11, 20, 29, 30, 33, 40, 44, 50, 52, 60, 69, 70, 71, 80, 83, 90, 91])
    models = [(described("hubert"), 1), (described("bert"), 5)]
    # after a pass each that does not count, the first took 2, 9, 4, 9 and 3 s, the second 1, 3, 2, 1 and 1 s; the
    # audio has 2 s
    assert real_time_factors(models, seconds=2.0, clock=lambda: next(ticks)) == [2.0, 0.5]


def test_tokens_are_those_of_the_transcript_and_two_special_ones():
    assert count_tokens(10, 3.5) == 37


def test_the_table_has_a_fraction_of_each_reference(accounts):
    small, large, base = (accounts[name] for name in ("distilhubert", "hubert-large", "hubert-base"))
    table = parameter_table([small], [large, base])
    row = table[table["part"] == "trainable, front end frozen"].iloc[0]
    assert row["parameters"] == 19_291_520
    assert row["fraction of hubert-large"] == pytest.approx(19_291_520 / 311_228_544)
    assert row["fraction of hubert-base"] == pytest.approx(19_291_520 / 90_171_264)


def test_the_command_prints_the_papers_fifth(configurations, tmp_path):
    names = {k: configurations / k for k in PUBLISHED}
    arguments = (
        "--audio-encoder",
        names["distilhubert"],
        "--text-encoder",
        names["distilbert"],
        "--reference",
        names["hubert-large"],
    )
    result = command("count-params", *arguments, "--csv", tmp_path / "table.csv")
    assert result.exit_code == 0, result.output
    assert "23,491,968" in result.stdout
    assert "315,438,720" in result.stdout
    assert "20.2 %" in result.stdout  # with the head, which the paper's fifth leaves out
    assert "19.9 %" in result.stdout
    assert len(pd.read_csv(tmp_path / "table.csv")) > 10


def test_a_missing_configuration_or_encoder_is_refused(tmp_path):
    with pytest.raises(InputError, match="can't be loaded"):
        load_model_spec(str(tmp_path))
    result = command("count-params")
    assert result.exit_code == 2
    assert "Name an encoder" in result.output


def test_the_embedded_encoder_is_counted_by_its_name():
    result = command("count-params", "--audio-encoder", "embedded")
    assert result.exit_code == 0, result.output
    encoder = load_model_spec("embedded").build()
    assert f"embedded: {sum(p.numel() for p in encoder.parameters()):,} parameters" in result.stdout
