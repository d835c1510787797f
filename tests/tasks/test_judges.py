"""What attacks on texts are judged by reads a text alone as it reads it among others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from contract.tiny import LETTERS, WORDS

from assay.tasks.judges import Judge

SPECIAL = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]


def mpnet(folder: Path) -> Path:
    """Write a tiny MPNet as save_pretrained does; its token of padding is 1, not 0."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MPNetConfig, MPNetModel, PreTrainedTokenizerFast

    ids = {token: place for place, token in enumerate([*SPECIAL, *WORDS, *LETTERS[1:]])}
    made = Tokenizer(models.WordLevel(vocab=ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=made, unk_token="[UNK]", pad_token="<pad>", model_max_length=40
    ).save_pretrained(folder)
    settings: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = MPNetConfig(
            vocab_size=len(ids),
            intermediate_size=32,
            max_position_embeddings=64,
            initializer_range=0.5,
            pad_token_id=1,
            **settings,
        )
        MPNetModel(config).save_pretrained(folder)
    return folder


def test_a_text_is_read_alone_as_among_others(tmp_path: Path) -> None:
    judge = Judge(str(mpnet(tmp_path)))
    given: list[tuple[torch.Tensor, torch.Tensor]] = []
    judge.model.register_forward_pre_hook(
        lambda _, __, named: given.append((named["input_ids"], named["attention_mask"])),
        with_kwargs=True,
    )
    texts = ["good", "the plot is bad but the acting is very good", "", "a film"]
    together = judge(texts)
    ((ids, mask),) = given
    assert set(ids[mask == 0].tolist()) == {1}, "padded by the tokenizer's own token"
    alone = torch.cat([judge([text]) for text in texts])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together[0], together[3], atol=0.01)
