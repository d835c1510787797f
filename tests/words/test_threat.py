"""What counts as the same text, in both settings."""

from __future__ import annotations

import math

import pytest
import torch

from assay.attacks.text.base import CharacterAttack, WordAttack
from assay.attacks.text.offers import Remembered, Vectors, offer, offered
from assay.attacks.text.substitutes import Neighbours
from assay.attacks.text.threat import Words
from assay.errors import AssayError
from words.toys import bag

X = "a good film with a weak plot"  # seven words: a fifth of them is one


def inside(threat: Words, adv: str, x: str = X) -> bool:
    return bool(threat.contains([x], [adv])[0])


def test_a_share_of_the_words() -> None:
    threat = Words(share=0.2)
    assert threat.most(X) == 1
    assert threat.most("good") == threat.most("") == 1
    assert inside(threat, X)
    assert inside(threat, X.replace("good", "fine"))
    assert not inside(threat, X.replace("good", "fine").replace("weak", "poor"))
    assert threat.distance([X], [X.replace("good", "fine")]).tolist() == pytest.approx([1 / 7])
    assert inside(Words(share=0.3), X.replace("good", "fine").replace("weak", "poor"))
    assert not inside(threat, X.replace(" ", "  "))  # white space is no free move


def test_stop_words_stay() -> None:
    assert not inside(Words(), X.replace("with", "without"))
    assert inside(Words(stop_words_kept=False), X.replace("with", "without"))
    assert not inside(Words(), X.replace("with ", ""))
    assert inside(Words(), X.replace("good ", ""))


def test_parts_of_speech_and_antonyms_by_wordnet() -> None:
    threat = Words(part_of_speech="wordnet", antonyms_refused=True)
    assert inside(threat, X.replace("good", "fine"))
    assert not inside(threat, X.replace("good", "movie"))
    assert not inside(threat, X.replace("good", "bad"))
    assert not inside(threat, X.replace("good", "xyzzy"))
    assert not inside(threat, X.replace("good ", ""))


def test_a_tagger_that_was_offered() -> None:
    from assay.attacks.text import offer

    offer("tagger", "by length", lambda text: [str(len(word)) for word in text.split()])
    assert inside(Words(part_of_speech="by length"), X.replace("good", "fine"))
    assert not inside(Words(part_of_speech="by length"), X.replace("good", "great"))
    with pytest.raises(AssayError, match=r"no tagger 'mine'.*by length"):
        inside(Words(part_of_speech="mine"), X.replace("good", "great"))


def test_edits_of_characters() -> None:
    assert inside(Words(per_word=1), X.replace("good", "gold"))
    assert not inside(Words(per_word=1), X.replace("good", "glad"))
    assert not inside(Words(in_all=1), X.replace("good", "glad"))
    strict = Words(per_word=1, shortest=4, ends_kept=True)
    assert inside(strict, X.replace("good", "gold"))
    assert not inside(strict, X.replace("good", "wood"))
    assert inside(strict, "the plit", "the plot")
    assert not inside(strict, "a pen", "a pan")
    assert inside(strict, "the polt", "the plot")  # neighbours exchanged: one edit
    assert not inside(Words(in_all=1), "the polt", "the plot")  # of Levenshtein's, two


def test_similar_sentences_by_the_angle() -> None:
    encode = Remembered(bag)
    (found,) = encode.similarity(["x y"], ["x z"]).tolist()
    assert found == pytest.approx(1 - math.acos(2 / 3) / math.pi)  # (1, x, y) and (1, x, z)
    assert encode.similarity(["x"], ["x"]).tolist() == pytest.approx([1.0], abs=1e-3)
    assert encode.encoded == 3
    encode(["x y", "x y", "x z"])
    assert encode.encoded == 3
    near = 1 - math.acos(7 / 8) / math.pi
    x, adv = "p q r s t u v", "p q r s t u w"
    assert inside(Words(similarity=near - 0.02), adv, x)
    assert not inside(Words(similarity=near + 0.02), adv, x)


def test_a_rough_encoder_decides_only_where_its_error_cannot() -> None:
    noise = torch.randn(64, generator=torch.Generator().manual_seed(0))

    def rough(texts: list[str]) -> torch.Tensor:
        return bag(texts) + 0.02 * noise * torch.tensor([[(-1.0) ** len(t)] for t in texts])

    offer("encoder", "plain", bag)
    offer("encoder", "screened", bag, rough=rough)
    x = ["p q r s t u v"] * 5
    advs = ["p q r s t u w", "p q r s t w xy", "p q r s w xy z", "p q r w xy z b", "p q r s t u v"]
    judge = offered("encoder", "screened")
    near = judge.similarity(x, advs).tolist()
    judge.roughly(x, advs)
    assert 0 < judge.slack < 0.2
    assert not torch.equal(judge.roughly(x, advs), judge.similarity(x, advs))
    off = (judge.roughly(x, advs) - judge.similarity(x, advs)).abs()
    assert float(off.max()) <= judge.slack
    for least in [value + d for value in near[:4] for d in (-0.001, 0.001, 0.1)]:
        plain, screened = (
            Words(share=1.0, similarity=least, encoder=name).alike(x, advs).tolist()
            for name in ("plain", "screened")
        )
        assert plain == screened
    offer("encoder", "screened", bag, rough=rough)  # one that remembers nothing
    judge = offered("encoder", "screened")
    judge.roughly(x[:1], advs[:1])
    known = judge.encoded
    assert Words(share=1.0, similarity=0.1, encoder="screened").alike(x, advs).all()
    assert judge.encoded == known, "nothing here is in doubt"
    assert judge.screened > known


def test_of_several_the_most_alike() -> None:
    x = "p q r s t u v"
    some = ["p q r s t w xy", "p q r s t u w", "p q r s t u z"]
    offer("encoder", "screened", bag, rough=lambda texts: bag(texts) + 0.01)
    for name in ("default", "screened"):
        threat = Words(share=1.0, similarity=0.5, encoder=name)
        assert threat.most_alike([x, x], [some, some[:1]]) == [some[1], some[0]], (
            "of equals the first"
        )
    assert Words(share=1.0).most_alike([x], [some]) == [some[0]]


def test_nothing_is_encoded_where_any_will_do() -> None:
    offer("encoder", "idle", bag)
    threat = Words(share=1.0, similarity=0.9, window=9, encoder="idle")
    assert threat.alike(["a b"], ["c d"]).tolist() == [True]
    assert offered("encoder", "idle").encoded == 0


def test_windows_around_each_word_changed() -> None:
    x = "b c f g h j k l"
    two = 1 - math.acos(3 / 4) / math.pi  # one of three words is another; `bag` counts a fourth
    threat = Words(share=1.0, similarity=two, window=3)
    for adv in ("b c f g h j k x", "x c f g h j k l"):  # j k x, and x c f
        assert threat.likeness([x], [adv]).tolist() == pytest.approx([two])
    assert inside(threat, "b c f x z j k l", x), "each is compared with what it was by itself"
    assert threat.likeness([x], ["b c f x z j k l"]).tolist() == pytest.approx([two])
    assert not inside(threat.model_copy(update={"similarity": two + 0.01}), "b c f g h j k x", x)
    assert not inside(Words(share=1.0, similarity=two), "b c f x x x x l", x), "whole texts"
    assert inside(Words(share=1.0, similarity=two), "b c f x z j k l", x), "of eight they are few"
    assert inside(Words(share=1.0, similarity=0.9, window=9), "n p q r u v w x", x), "too short"
    assert not inside(Words(share=1.0, similarity=0.9), "n p q r u v w x", x)
    assert "window" not in Words().model_dump()
    assert "every 3 words before and after each change" in threat.describe()


def test_word_vectors() -> None:
    vectors = Vectors(("a", "b", "c"), torch_of([[1.0, 0.0], [3.0, 4.0], [-1.0, 0.0]]))
    assert vectors.cosine("a", "B") == pytest.approx(0.6)
    assert vectors.cosine("a", "d") is None
    assert vectors.nearest("a", 2) == ["b", "c"]
    assert vectors.nearest("a", 2, least=0.5) == ["b"]
    assert vectors.nearest("d", 2) == []
    assert not inside(Words(word_similarity=0.5), X.replace("good", "xyzzy"))
    assert inside(Words(word_similarity=0.5), X.replace("good", "fine"))
    with pytest.raises(AssayError, match="as many vectors"):
        Vectors(("a",), torch_of([[1.0], [2.0]]))
    made: list[Vectors] = []

    def make() -> Vectors:
        made.append(vectors)
        return vectors

    offer("vectors", "late", make)
    assert not made
    assert offered("vectors", "late") is offered("vectors", "late") is vectors
    assert len(made) == 1


def torch_of(values: list[list[float]]) -> torch.Tensor:
    return torch.tensor(values)


def test_the_settings_are_those_of_the_papers() -> None:
    class Some(WordAttack):
        name: str = "some"

    class Typos(CharacterAttack):
        name: str = "typos"

    assert Some().threat.word_similarity is None  # synonyms share a meaning by themselves
    loose, strict = (
        Some(setting=one, substitutes=Neighbours()).threat for one in ("permissive", "strict")
    )
    assert (loose.word_similarity, loose.similarity, loose.window) == (0.5, 0.84, 15)
    assert (strict.word_similarity, strict.similarity, strict.window) == (0.9, 0.98, None)
    assert Some(word_similarity=0.7).threat.word_similarity == 0.7
    assert loose.antonyms_refused
    assert strict.part_of_speech == "wordnet"
    assert Some(setting="strict", similarity=0.9).threat.similarity == 0.9
    assert (Typos().threat.in_all, Typos().threat.per_word) == (30, None)
    assert (Typos(setting="strict").threat.per_word, Typos(setting="strict").threat.shortest) == (
        1,
        4,
    )
    assert "0.98 alike" in strict.describe()


def test_what_was_not_offered() -> None:
    with pytest.raises(AssayError, match=r"no encoder 'none'.*offer it first"):
        offered("encoder", "none")
