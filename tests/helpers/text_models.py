"""Small text encoders of the real architectures on disk, with tokenizers that are trained on a few sentences."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import (
    BertConfig,
    BertModel,
    CamembertConfig,
    CamembertModel,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

SENTENCES = (
    "the letter this morning was wonderful and kind",
    "nobody said that the dinner was terrible or even bitter",
    "she told us about a miserable and gloomy evening",
    "in the end we had a delightful journey and a brilliant day",
)
PADDING, BEFORE, AFTER, UNKNOWN = "[PAD]", "[CLS]", "[SEP]", "[UNK]"
LONGEST = 40  # tokens
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 1,
    "hidden_dropout_prob": 0.5,  # must be off when layers are read
}
SMALL_DISTILBERT = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "pad_token_id": 1, "dropout": 0.5}
TEXT_KINDS: dict[str, tuple[type[PretrainedConfig], type[PreTrainedModel], int]] = {
    "bert": (BertConfig, BertModel, 0),
    "camembert": (CamembertConfig, CamembertModel, 2),
    "distilbert": (DistilBertConfig, DistilBertModel, 0),
    "mpnet": (MPNetConfig, MPNetModel, 2),
    "roberta": (RobertaConfig, RobertaModel, 2),
    "xlm-roberta": (XLMRobertaConfig, XLMRobertaModel, 2),
}


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer with a special token before and after each text."""
    tokenizer = Tokenizer(WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(lowercase=True), BertPreTokenizer()
    special = [UNKNOWN, PADDING, BEFORE, AFTER]
    tokenizer.train_from_iterator(SENTENCES, WordPieceTrainer(vocab_size=120, special_tokens=special))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{BEFORE} $A {AFTER}",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in (BEFORE, AFTER)],
    )
    names = {"unk_token": UNKNOWN, "pad_token": PADDING, "cls_token": BEFORE, "sep_token": AFTER}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LONGEST, **names)


def small_text_model(kind: str) -> PreTrainedModel:
    """Return a model of three narrow blocks with seeded random weights."""
    torch.manual_seed(5)
    config, architecture, first_position = TEXT_KINDS[kind]
    size = SMALL_DISTILBERT if kind == "distilbert" else SMALL
    model = architecture(
        config(**size, vocab_size=len(small_tokenizer()), max_position_embeddings=LONGEST + first_position)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def save_text_model(kind: str, folder: Path) -> Path:
    """Save the model with its tokenizer as a transformers folder."""
    with torch.random.fork_rng():
        small_text_model(kind).save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder
