"""What every attack on texts must do, by the runner that attacks images; and each by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract.tiny import text_classifier

from assay.attacks.runner import run
from assay.attacks.text import (
    HotFlip,
    Misspell,
    Names,
    Substitute,
    TextAttack,
    WordGenetic,
    after_normalising,
    text_attacks,
)
from assay.attacks.text.asking import rows_of
from assay.attacks.text.characters import CHANGES, FORMS, normalised
from assay.attacks.text.offers import offer, offered
from assay.errors import AssayError
from words.toys import LABELS, SENTENCES, Lexicon, bag

NAMES = list(text_attacks())
ODD = ["", " ", "日本語の映画", "👩‍🚀 🎬", "cafe\u0301 !", "\u200b", "the of a", "xyzzy plugh"]


def make(name: str, **settings: Any) -> TextAttack:
    kind = text_attacks()[name]
    given = {"share": 0.5, "similarity": 0.6, "substitutes": "neighbours", **settings}
    return kind.parse({key: v for key, v in given.items() if key in kind.model_fields})


@pytest.mark.parametrize("setting", ["permissive", "strict"])
@pytest.mark.parametrize("name", NAMES)
def test_all_stay_within_the_threat_and_count_their_queries(name: str, setting: Any) -> None:
    oracle = Lexicon()
    result = run(make(name, setting=setting), oracle, SENTENCES, LABELS, stop="fooled")
    assert result.refused == 0
    assert bool(result.threat.contains(SENTENCES, result.adversarial).all())
    assert int(result.queries.sum()) == oracle.queries == sum(result.evaluations.values())
    said = Lexicon().predict(result.adversarial)
    assert torch.equal(said != LABELS, result.success)
    assert result.describe().startswith(name.upper())
    assert int(result.success.sum()) > 0 or name == "names"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", ["fooled", "never"])
@pytest.mark.parametrize("budget", [1, 9])
def test_query_budgets_are_kept(name: str, stop: Any, budget: int) -> None:
    result = run(make(name), Lexicon(), SENTENCES, LABELS, stop=stop, query_budget=budget)
    assert int(result.queries.max()) <= budget


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_attacked_as_it_would_be_alone(name: str) -> None:
    whole = run(make(name), Lexicon(), SENTENCES, LABELS, stop="fooled", seed=3)
    for k in (1, 3):
        ids, y = torch.tensor([k]), LABELS[k : k + 1]
        alone = run(make(name), Lexicon(), [SENTENCES[k]], y, stop="fooled", seed=3, ids=ids)
        assert alone.adversarial == [whole.adversarial[k]]
        assert alone.queries.tolist() == [int(whole.queries[k])]


@pytest.mark.parametrize("name", NAMES)
def test_odd_texts_are_attacked_too(name: str) -> None:
    result = run(make(name, share=1.0), Lexicon(), ODD, attack_wrong=True)
    assert bool(result.threat.contains(ODD, result.adversarial).all())
    assert result.adversarial[0] == ""


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_read_back(name: str) -> None:
    attack = make(name, setting="strict")
    assert type(attack).from_yaml(attack.to_yaml()) == attack


def near(kind: type[TextAttack], **settings: Any) -> Any:
    """Make an attack that takes its substitutes from the toy vectors."""
    return kind.parse({"substitutes": "neighbours", **settings})


def test_substitution_by_hand() -> None:
    """ "good" matters most; of fine, decent and great the loss falls most with decent, which fools
    the model in a text that says nothing else."""
    x, y = ["good", "a good and moving film"], torch.tensor([1, 1])
    oracle = Lexicon()
    result = run(near(Substitute, share=0.5, similarity=0.4), oracle, x, y, stop="fooled")
    assert result.adversarial == ["decent", "a decent and touching film"]
    # clean by the runner; clean and without it; decent, fine and great; the confirmation
    assert result.queries.tolist()[0] == 1 + 2 + 3 + 1
    # clean; clean and three words without; 3 at good, 1 at moving, which fools; confirmation
    assert result.queries.tolist()[1] == 1 + 4 + 3 + 1 + 1
    assert result.distance.tolist() == pytest.approx([1.0, 0.4])
    held = run(near(Substitute, share=0.2, similarity=0.4), Lexicon(), x, y, stop="fooled")
    assert held.success.tolist() == [True, False]


def test_words_in_the_order_of_what_their_substitutes_gain() -> None:
    """Most is lost without "great"; "good" in its place gains 0.5, and "fine" for "good" 1.3."""
    x, y = ["great and good and moving"], torch.tensor([1])

    def fill(text: str, start: int, end: int, _: int) -> list[str]:
        return {"great": ["good"], "good": ["fine"], "moving": ["touching"]}[text[start:end]]

    offer("filler", "each", fill)
    given = {
        "share": 0.2,
        "similarity": 0.0,
        "part_of_speech": None,
        "substitutes": {"name": "masked", "filler": "each"},
    }
    lost, gained = (
        run(Substitute.parse({**given, "importance": name}), Lexicon(), x, y)
        for name in ("delete", "gain")
    )
    assert lost.adversarial == ["good and good and moving"]
    assert gained.adversarial == ["great and fine and moving"]
    # clean by the runner; clean, three words without and one option of each; that of "good" is
    # known, and with one word spent it ends; the confirmation
    assert gained.queries.tolist() == [1 + 1 + 3 + 3 + 1]
    for budget in (1, 5, 9):
        attack = Substitute.parse({**given, "importance": "gain"})
        held = run(attack, Lexicon(), x, y, query_budget=budget)
        assert int(held.queries.max()) <= budget


def test_all_candidates_of_a_step_are_asked_together() -> None:
    oracle = Lexicon()
    run(
        near(Substitute, share=0.5, similarity=0.4), oracle, SENTENCES[:4], LABELS[:4], stop="never"
    )
    assert oracle.calls[0] == 4  # clean
    assert oracle.calls[1] > 4 * 2  # all importances at once
    assert len(oracle.calls) < 10


def test_wordnet_serves_without_vectors() -> None:
    attack = Substitute.parse({"share": 0.5, "similarity": 0.4, "substitutes": "wordnet"})
    result = run(attack, Lexicon(), ["a great picture"], torch.tensor([1]), stop="fooled")
    assert result.adversarial == ["a decent picture"]


def test_opposites_are_no_substitutes() -> None:
    """ "bad" is among the nearest of "good" in the toy vectors, as in plain ones."""
    result = run(
        near(Substitute, share=1.0, similarity=0.0), Lexicon(), ["good"], torch.tensor([1])
    )
    assert result.adversarial == ["decent"]


def test_a_masked_model_that_was_offered() -> None:
    from assay.attacks.text import offer

    offer("filler", "toy", lambda *_: ["decent", "bad", "##x"])
    attack = Substitute.parse(
        {"share": 1.0, "similarity": 0.0, "substitutes": {"name": "masked", "filler": "toy"}}
    )
    result = run(attack, Lexicon(), ["good"], torch.tensor([1]), stop="fooled")
    assert result.adversarial == ["decent"]


def test_hotflip_follows_the_gradient() -> None:
    oracle = Lexicon()
    attack = near(HotFlip, share=0.5, similarity=0.4, tries=1)
    result = run(attack, oracle, SENTENCES[:1], LABELS[:1], stop="fooled")
    # by the gradient good → decent (−2.4) comes first, then moving → touching (−0.8): one try each
    assert result.adversarial == ["a decent and touching film"]
    # clean; clean; (gradient, one try) twice; confirmation
    assert result.queries.tolist() == [1 + 1 + 2 + 2 + 1]


def test_hotflip_needs_gradients() -> None:
    class Box(Lexicon):
        access: Any = "scores"

    said = "hotflip needs access to the gradient.* scores only: use .*substitute"
    with pytest.raises(AssayError, match=said) as refused:
        run(HotFlip(), Box(), SENTENCES)
    assert "square" not in str(refused.value)


def test_hotflip_has_no_copy_in_bfloat16() -> None:
    attack = near(HotFlip, similarity=0.0)
    result = run(attack, text_classifier(), ["a good film"], precision="bfloat16")
    assert result.fast is not None
    assert not result.fast.used
    assert "gradients" in result.fast.why


@pytest.mark.parametrize("setting", ["permissive", "strict"])
def test_a_rough_encoder_changes_no_attack(setting: Any) -> None:
    offer("encoder", "plain", bag)
    offer("encoder", "screened", bag, rough=lambda texts: bag(texts) + 0.01)
    found = [
        run(
            near(Substitute, setting=setting, share=0.5, similarity=0.7, encoder=name),
            *(Lexicon(), SENTENCES, LABELS),
            stop="fooled",
        )
        for name in ("plain", "screened")
    ]
    assert found[0].adversarial == found[1].adversarial
    assert found[0].queries.tolist() == found[1].queries.tolist()
    assert (offered("encoder", "screened").screened > 0) == (setting == "strict"), "short texts"


def test_a_larger_population_fools_no_fewer() -> None:
    small = near(WordGenetic, share=0.5, similarity=0.4, population=2, steps=1, neighbours=1)
    large = near(WordGenetic, share=0.5, similarity=0.4, population=12, steps=6)
    found = [int(run(a, Lexicon(), SENTENCES, LABELS).success.sum()) for a in (small, large)]
    assert found[0] < found[1]


def test_names_are_swapped_for_names_of_their_kind() -> None:
    class Fond(Lexicon):
        """Likes whatever Anna is in."""

        def query(self, x: list[str]) -> torch.Tensor:
            liked = torch.tensor([[0.0, 5.0 * ("anna" in text.lower())] for text in x])
            return super().query(x) + liked.reshape(-1, 2)

    x = ["Anna is in this bad film", "a bad film of james"]
    result = run(Names(), Fond(), x, stop="fooled")
    assert result.success.tolist() == [True, False]
    new = result.adversarial[0].split()[0]
    assert new != "Anna"
    assert new.istitle()


@pytest.mark.parametrize(
    ("kind", "undone"),
    [
        ("wide", ["nfkc", "seen", "latin"]),
        ("zero-width", ["seen", "latin"]),
        ("homoglyph", ["latin"]),
    ],
)
def test_what_normal_forms_undo(kind: Any, undone: list[str]) -> None:
    result = run(Misspell(edits=(kind,), share=1.0), Lexicon(), ["a good film"], stop="fooled")
    assert bool(result.success.all())
    assert result.adversarial[0] != "a good film"
    left = {form: after_normalising(result, form).value for form in FORMS}
    assert left == {form: 0.0 if form in undone else 1.0 for form in FORMS}


def test_the_strict_setting_has_swaps() -> None:
    """Pruthi et al. 2019: neighbours inside a word exchanged are one edit."""
    attack = Misspell(edits=("swap",), setting="strict", share=1.0)
    result = run(attack, Lexicon(), ["a great film"], stop="fooled")
    assert result.success.tolist() == [True]
    assert result.adversarial[0].split()[1] in ("gerat", "graet")


@pytest.mark.parametrize("setting", ["permissive", "strict"])
def test_of_every_kind_of_misspelling_as_many_are_tried(setting: Any) -> None:
    row = rows_of(["a boring film"], torch.tensor([0]))[0]
    attack = Misspell(setting=setting)
    draws = torch.linspace(0, 0.99, 64).tolist()
    found = attack.options(row, 1, draws)
    assert len(set(found)) == attack.tries == 8
    kinds = [{kind for kind in attack.edits if new in CHANGES[kind]("boring")} for new in found]
    assert [sum(kind in some for some in kinds) for kind in attack.edits] == [2, 2, 2, 2]
    assert all(attack.threat.allows(("boring", new)) for new in found)
    short = rows_of(["a film"], torch.tensor([0]))[0]
    swaps = Misspell(edits=("swap", "replace"), setting="strict").options(short, 1, draws)
    assert len(swaps) == 8  # there is one swap that keeps the ends: letters make up for it
    assert swaps.count("flim") == 1


@pytest.mark.parametrize("importance", ["delete", "unknown"])
def test_of_a_word_that_is_repeated_all_may_be_changed(importance: Any) -> None:
    class Count(Lexicon):
        def query(self, x: list[str]) -> torch.Tensor:
            self.queries += len(x)
            return torch.tensor([[0.5, float(text.split().count("good"))] for text in x])

    attack = Misspell(importance=importance, share=1.0)
    result = run(attack, Count(), ["good good good film"], stop="fooled")
    assert result.success.tolist() == [True]
    assert "good" not in result.adversarial[0].split()


def test_each_change_of_characters() -> None:
    one = {kind: list(change("cat")) for kind, change in CHANGES.items()}
    assert one["swap"] == ["act", "cta"]
    assert one["delete"] == ["at", "ct", "ca"]
    assert len(one["insert"]) == 3 * 26
    assert len(one["replace"]) == 3 * 25
    assert one["keyboard"][:3] == ["xat", "vat", "dat"]
    assert one["homoglyph"] == ["\u0441at", "c\u0430t"]
    assert [normalised(word, "nfkc") for word in one["wide"]] == ["cat"] * 3
    assert {normalised(word, "seen") for word in one["zero-width"]} == {"cat"}
    assert all(not list(change("")) for change in CHANGES.values())


def test_russian_stays_russian() -> None:
    assert normalised("фильм про осень", "latin") == "фильм про осень"
