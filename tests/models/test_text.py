from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from contract.tiny import bert, encoder_folder, text_classifier, tokenizer
from torch import Tensor

from assay.core.random import Stream
from assay.core.texts import TextClassifier
from assay.errors import AssayError
from assay.models.adaptation import Adaptation, BitFit, Full, Head, LoRA, _named_layers
from assay.models.encoders import Pretrained, kinds_of, located
from assay.models.loading import load_model
from assay.models.text import load_text
from assay.models.textnet import TextNetwork, save_text

TEXTS = ["a good film", "", "the plot is bad but the acting was very good"]
CLASSES = ("negative", "positive")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("models") / "encoder")


def made(
    encoder: Path, adaptation: Adaptation, seed: int = 0
) -> tuple[TextNetwork, TextClassifier]:
    network = TextNetwork(base=str(encoder), adaptation=adaptation)  # type: ignore[arg-type]
    return network, network.classifier(CLASSES, Stream(seed))


def disturb(clf: TextClassifier) -> None:
    """Change what is trained, as a training would."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in clf.model.parameters():
            if parameter.requires_grad:
                parameter += 0.05 * torch.randn(parameter.shape, generator=draw)


LINEAR = 2 * (4 * 16 * 16 + 2 * 16 * 32)  # weights of the linear layers of two blocks


@pytest.mark.parametrize(
    ("adaptation", "trained"),
    [
        (Head(), 2 * 16 + 2),
        # a block: 4 biases of attention, 32 and 16 of the MLP, 2 norms; and one of the embeddings
        (BitFit(), 2 * (4 * 16 + 32 + 16 + 2 * 16) + 16 + 34),
        # r (in + out) of each layer
        (LoRA(rank=2), 2 * 2 * (4 * 32 + 2 * 48) + 34),
        (LoRA(rank=3, layers="attention"), 3 * 2 * 4 * 32 + 34),
    ],
    ids=["head", "bitfit", "lora", "lora of attention"],
)
def test_what_is_trained_is_what_the_adaptation_says(
    encoder: Path, adaptation: Adaptation, trained: int
) -> None:
    _, clf = made(encoder, adaptation)
    assert sum(p.numel() for p in clf.model.parameters() if p.requires_grad) == trained


@pytest.mark.parametrize(
    "adaptation", [Full(), Head(), BitFit(), LoRA(rank=2)], ids=lambda found: found.name
)
def test_what_is_saved_answers_the_same(
    encoder: Path, adaptation: Adaptation, tmp_path: Path
) -> None:
    network, clf = made(encoder, adaptation, seed=3)
    before = clf.query(TEXTS)
    disturb(clf)
    after = clf.query(TEXTS)
    assert not torch.allclose(before, after, atol=1e-3)
    save_text(tmp_path / "m.safetensors", clf, network)
    loaded = load_text(tmp_path / "m.safetensors")
    assert torch.equal(loaded.query(TEXTS), after)
    assert loaded.classes == CLASSES
    save_text(tmp_path / "again.safetensors", clf, network)
    assert (tmp_path / "m.safetensors").read_bytes() == (
        tmp_path / "again.safetensors"
    ).read_bytes()


def test_only_what_was_trained_is_written(encoder: Path, tmp_path: Path) -> None:
    sizes = {}
    for adaptation in (Full(), LoRA(rank=2), Head()):
        network, clf = made(encoder, adaptation)
        save_text(tmp_path / f"{adaptation.name}.safetensors", clf, network)
        sizes[adaptation.name] = (tmp_path / f"{adaptation.name}.safetensors").stat().st_size
    assert sizes["head"] < sizes["lora"] < sizes["full"]


def test_a_new_head_depends_on_the_stream_alone(encoder: Path) -> None:
    def answer(seed: int) -> Tensor:
        return made(encoder, LoRA(rank=2), seed)[1].query(TEXTS)

    torch.manual_seed(5)
    first = answer(0)
    torch.manual_seed(6)
    assert torch.equal(answer(0), first)
    assert not torch.allclose(answer(1), first)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("Bert", {"query", "key", "value", "dense"}),
        ("DistilBert", {"q_lin", "k_lin", "v_lin", "out_lin"}),
        ("DebertaV2", {"query_proj", "key_proj", "value_proj", "dense"}),
        ("Deberta", {"in_proj", "dense"}),
        ("MPNet", {"q", "k", "v", "o"}),
    ],
)
def test_lora_of_attention_finds_its_layers_by_whatever_name(kind: str, names: set[str]) -> None:
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        hidden_size=8, num_attention_heads=2, num_hidden_layers=2, intermediate_size=16
    )
    with torch.device("meta"):
        encoder = getattr(transformers, f"{kind}Model")(config)
    found = _named_layers(encoder, "attention")
    assert len(found) == 2 * len(names)  # as many in each of two blocks, and none of the MLP's
    assert {name.rpartition(".")[2] for name in found} == names
    assert all("attention" in name for name in found)


def test_lora_changes_nothing_before_it_is_trained(encoder: Path) -> None:
    answers = [made(encoder, a)[1].query(TEXTS) for a in (Head(), LoRA(rank=2))]
    assert torch.allclose(*answers, atol=1e-6)


def test_another_encoder_under_the_same_name_is_noticed(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "encoder")
    network, clf = made(folder, Head())
    save_text(tmp_path / "m.safetensors", clf, network)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "layer_norm_eps": 1e-6}))
    with pytest.raises(AssayError, match=r"made from another .*encoder than is here now"):
        load_text(tmp_path / "m.safetensors")


# -- models that somebody brings -----------------------------------------------------------------


def with_head(folder: Path, **names: Any) -> Path:
    model = bert(**names)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def test_a_folder_of_hugging_face_is_loaded_as_it_is(tmp_path: Path) -> None:
    labels = {0: "bad", 1: "good"}
    folder = with_head(tmp_path / "m", id2label=labels, label2id={"bad": 0, "good": 1})
    clf = load_text(folder)
    assert clf.classes == ("bad", "good")
    assert torch.allclose(clf.query(TEXTS), text_classifier().query(TEXTS), atol=1e-6)
    assert load_text(str(folder), classes=("-", "+")).classes == ("-", "+")


@pytest.mark.parametrize(
    ("said", "names"),
    [
        ({"1": "good", "0": "bad"}, ("bad", "good")),
        ({"0": "crane", "1": "ibis", "2": "crane"}, ("crane (0)", "ibis", "crane (2)")),
        ({"0": "LABEL_0", "1": "LABEL_1"}, ()),
        ({"first": "bad", "second": "good"}, ()),
        ([], ()),
    ],
)
def test_classes_are_named_as_the_config_does(
    tmp_path: Path, said: object, names: tuple[str, ...]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"id2label": said}))
    assert Pretrained("mine", tmp_path).labels == names


def test_a_model_without_a_trained_head_is_noticed(encoder: Path) -> None:
    with pytest.raises(AssayError, match=r"no trained classification head \(classifier.bias, .*\)"):
        load_text(encoder)


def test_files_that_may_run_code_are_not_read(tmp_path: Path) -> None:
    folder = with_head(tmp_path / "m")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(AssayError, match=r"no weights in .safetensors, but pytorch_model.bin"):
        load_text(folder)


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    folder = with_head(tmp_path / "m")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModel": "own.M"}}
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(AssayError, match=r"cannot be read \(code of a repository is never run\)"):
        load_text(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.json", "holds no config.json"),
        ("tokenizer.json", "holds no tokenizer.json"),
        ("model.safetensors", "holds no weights in .safetensors: load it"),
    ],
)
def test_files_that_are_missing_are_named(tmp_path: Path, gone: str, said: str) -> None:
    folder = with_head(tmp_path / "m")
    (folder / gone).unlink()
    with pytest.raises(AssayError, match=said):
        load_text(folder)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    folder = with_head(tmp_path / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:100])
    with pytest.raises(AssayError, match=r"the model of .* cannot be read") as refused:
        load_text(folder)
    assert "\n" not in str(refused.value)
    (folder / "model.safetensors").write_bytes(whole)
    (folder / "config.json").write_text("{")
    with pytest.raises(AssayError, match=r"cannot be read"):
        load_text(folder)


def test_a_name_that_is_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AssayError, match=r"no folder 'minilmm' \(did you mean 'minilm'\?\)"):
        located("minilmm")
    with pytest.raises(AssayError, match=r"there is no folder .*nothing"):
        located(tmp_path / "nothing")
    with pytest.raises(AssayError, match="neither a folder nor an id"):
        located("a/b/c d")
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    with pytest.raises(AssayError, match="no text classifier of assay"):
        load_text(tmp_path / "x.safetensors")


@pytest.mark.parametrize("offline", ["1", "0"])
def test_an_id_in_the_hubs_cache_needs_no_network(tmp_path: Path, offline: str) -> None:
    """In a process of its own: the library reads HF_HOME once, and loads parts of itself late."""
    repo = tmp_path / "hub" / "models--some-org--films"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("a" * 40)
    with_head(repo / "snapshots" / ("a" * 40))
    program = (
        "from assay.models.encoders import kinds_of, located\n"
        "print(located('some-org/films').folder, *kinds_of('some-org/films'))\n"
    )
    unreachable = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_DISABLE_TELEMETRY": "1"}
    where = {**os.environ, **unreachable, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline}
    done = subprocess.run(
        [sys.executable, "-c", program], env=where, capture_output=True, text=True, check=False
    )
    folder = repo / "snapshots" / ("a" * 40)
    assert done.stdout.split() == [str(folder), "BertForSequenceClassification"], done.stderr


def test_the_kind_of_a_model_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download retries for half a minute without a network, and says so line by line."""
    hub = pytest.importorskip("huggingface_hub")
    asked: list[str] = []

    def nobody(*_: Any, **__: Any) -> Any:
        asked.append("info")
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(hub, "model_info", nobody)
    monkeypatch.setattr(hub, "hf_hub_download", lambda *_, **__: asked.append("download"))
    assert kinds_of("some-org/unheard-of") == ()
    assert asked == ["info"]


def test_minilm_is_the_sentence_transformer() -> None:
    """Loaded once: pooled and normalised it gives what sentence-transformers' own example gives."""
    clf = TextNetwork(adaptation=Head()).classifier(CLASSES, Stream(0))
    assert sum(p.numel() for p in clf.model.parameters()) == 22_713_986
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "The stock market fell."]
    e = clf.embed(texts)
    assert e.features is not None
    unit = e.features / e.features.norm(dim=1, keepdim=True)
    assert 0.7 < float(unit[0] @ unit[1]) < 0.8
    assert float(unit[0] @ unit[2]) < 0.1


def test_what_takes_images_says_what_a_text_classifier_is(encoder: Path, tmp_path: Path) -> None:
    network, clf = made(encoder, Head())
    save_text(tmp_path / "m.safetensors", clf, network)
    with pytest.raises(AssayError, match="is a classifier of texts, and this takes one of images"):
        load_model(tmp_path / "m.safetensors")
