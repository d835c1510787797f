"""A tiny transformer of texts with a tokenizer of its own, made here: nothing is loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from assay.core.texts import TextClassifier

WORDS = ["a", "an", "the", "film", "plot", "is", "good", "bad", "moving", "boring"]
WORDS += ["but", "and", "not", "very", "acting", "it", "was"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]


@cache
def tokenizer() -> Any:
    """BERT's: lower case, no accents, pieces of words; letters where it knows no longer ones."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {token: place for place, token in enumerate(dict.fromkeys(VOCABULARY))}
    made = Tokenizer(models.WordPiece(vocab=ids, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=marks
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=40,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def config(**settings: Any) -> Any:
    from transformers import BertConfig

    return BertConfig(
        **{
            "vocab_size": len(set(VOCABULARY)),
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "initializer_range": 0.5,
            **settings,
        }
    )


def bert(**settings: Any) -> Any:
    """Return a BERT with a head, the same each time."""
    from transformers import BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BertForSequenceClassification(config(**settings)).eval()


def text_classifier(**settings: Any) -> TextClassifier:
    settings = {"classes": ("negative", "positive"), **settings}
    return TextClassifier(bert(), tokenizer(), **settings)


def encoder_folder(folder: Path) -> Path:
    """Write a tiny encoder without a head, as save_pretrained writes it."""
    from transformers import BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config()).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
