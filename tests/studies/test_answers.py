"""Answers of studies, on made-up verdicts of every kind: none contradicts its verdicts."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import NamedTuple

import pytest

from assay.report.answer import plain
from assay.stats import Claim, Estimate
from assay.studies import answers, load
from assay.studies.base import Study


class Words(NamedTuple):
    """What an answer says of a claim if it holds, if it does not, and if that is open."""

    holds: str
    fails: str
    is_open: str
    equivalence: bool = False


SAID: dict[str, dict[str, Words]] = {
    "skip": {
        "skip.wins": Words(
            "Skip connections win at [7,7]: ",
            "Skip connections do not win at [7,7]: ",
            "hether skip connections win at [7,7]",
        ),
        "skip.undoes": Words(
            "From [2,2] to [7,7] depth does better with skip connections than without: ",
            "From [2,2] to [7,7] depth does no better with skip connections than without: ",
            "hether depth does better with skip connections than without from [2,2] to [7,7]",
        ),
        "skip.degrades": Words(
            "Plain networks degrade from [5,5] to [7,7]: ",
            "Plain networks do not degrade from [5,5] to [7,7]: ",
            "hether plain networks degrade from [5,5] to [7,7]",
        ),
        "skip.gains": Words(
            "Networks with skip connections gain from [2,2] to [7,7]: ",
            "Networks with skip connections do not gain from [2,2] to [7,7]: ",
            "hether networks with skip connections gain from [2,2] to [7,7]",
        ),
        "skip.shallow": Words(
            "At [2,2] skip connections change nothing that matters: ",
            "At [2,2] skip connections do make a difference: ",
            "hether skip connections make no difference at [2,2]",
            equivalence=True,
        ),
    },
    "words": {
        "words.substitute": Words(
            "In the permissive setting, greedy substitution of at most a fifth of the words "
            "fools the classifier on 70 % of the texts or more: ",
            "In the permissive setting, greedy substitution of at most a fifth of the words "
            "fools the classifier on less than 70 % of the texts: ",
            "hether in the permissive setting greedy substitution of at most a fifth of the "
            "words fools the classifier on 70 % of the texts or more",
        ),
        "words.strict": Words(
            "The strict setting lowers the success of greedy substitution by 30 points or "
            "more: by ",
            "The strict setting lowers the success of greedy substitution by less than 30 "
            "points: by ",
            "hether the strict setting lowers the success of greedy substitution by 30 points "
            "or more",
        ),
        "words.homoglyph": Words(
            "Mapping homoglyphs back to Latin letters lowers the success of an attack by them: by ",
            "Mapping homoglyphs back to Latin letters does not lower the success of an attack "
            "by them enough to matter: by ",
            "hether mapping homoglyphs back to Latin letters lowers the success of an attack "
            "by them",
        ),
        "words.zero-width": Words(
            "Removing zero-width characters lowers the success of an attack by them: by ",
            "Removing zero-width characters does not lower the success of an attack by them "
            "enough to matter: by ",
            "hether removing zero-width characters lowers the success of an attack by them",
        ),
        "words.augmented": Words(
            "Training on exchanged words as well lowers the success of greedy substitution: by ",
            "Training on exchanged words as well does not lower the success of greedy "
            "substitution enough to matter: by ",
            "hether training on exchanged words as well lowers the success of greedy substitution",
        ),
    },
    "regularization": {
        "regularization.augments": Words(
            "Augmented images regularize better",
            "Augmented images do not regularize better",
            "hether augmented images regularize better",
        ),
        "regularization.features": Words(
            "Augmentation in feature space regularizes better",
            "Augmentation in feature space does not regularize better",
            "hether augmentation in feature space regularizes better",
        ),
        "regularization.adds": Words(
            "The best two methods together beat the best one: ",
            "The best two methods together do not beat the best one: ",
            "hether the best two methods together beat the best one",
        ),
        "regularization.overdoes": Words(
            "Aggressive dropout generalises worse",
            "Aggressive dropout does not generalise worse",
            "hether aggressive dropout generalises worse",
        ),
        "regularization.underfits": Words(
            "Aggressive dropout underfits: ",
            "Aggressive dropout does not underfit: ",
            "hether aggressive dropout underfits",
        ),
    },
    "attacks": {
        "attacks.pixels": Words(
            "Changing 1 pixel, without gradients, fools more than 5 %",
            "Changing 1 pixel, without gradients, fools less than 5 %",
            "hether changing 1 pixel, without gradients, fools more than 5 %",
        ),
        "attacks.iterate": Words(
            "At 2/255 many small steps (PGD) fool more images",
            "At 2/255 many small steps (PGD) fool no more images",
            "hether many small steps (PGD) fool more images",
        ),
        "attacks.noise": Words(
            "Noise of 8/255 leaves more than 95 %",
            "Noise of 8/255 leaves less than 95 %",
            "hether noise of 8/255 leaves more than 95 %",
        ),
    },
    "attention": {
        "attention.moves": Words(
            "Attacks move the saliency map further than noise",
            "Attacks move the saliency map no further than noise",
            "hether attacks move the saliency map further than noise",
        ),
        "attention.steadier": Words(
            "Adversarial training keeps the saliency map steadier",
            "Adversarial training does not keep the saliency map steadier",
            "hether adversarial training keeps the saliency map steadier",
        ),
        "attention.success": Words(
            "Attacks that succeed move the saliency map further",
            "Attacks that succeed move the saliency map no further",
            "hether attacks that succeed move the saliency map further",
        ),
        "attention.scatters": Words(
            "Under attack the map scatters, as the course says: ",
            "Under attack the map does not scatter: ",
            "hether the map scatters under attack",
        ),
        "attention.clings": Words(
            "Under few-pixel attacks the map clings to the perturbation, as the course says: ",
            "Under few-pixel attacks the map does not cling to the perturbation: ",
            "hether the map clings to the perturbation of few-pixel attacks",
        ),
    },
    "gradients": {
        "gradients.sigmoid_vanishes": Words(
            "Yes, with sigmoid, over 20 layers: ",
            "Not with sigmoid, over 20 layers: ",
            "hether the gradient vanishes with sigmoid over 20 layers",
        ),
        "gradients.tanh_steeper": Words(
            "With tanh the gradient falls faster",
            "With tanh the gradient falls no faster",
            "hether the gradient falls faster with tanh",
        ),
        "gradients.he_keeps": Words(
            "With ReLU He initialisation keeps more of the gradient",
            "With ReLU He initialisation keeps no more of the gradient",
            "hether He initialisation keeps more of ReLU's gradient",
        ),
        "gradients.batch_norm": Words(
            "Batch norm makes the 20-layer sigmoid net learn: ",
            "Batch norm does not make the 20-layer sigmoid net learn: ",
            "hether batch norm makes the 20-layer sigmoid net learn",
        ),
        "gradients.residual": Words(
            "Residual connections make the 20-layer sigmoid net learn: ",
            "Residual connections do not make the 20-layer sigmoid net learn: ",
            "hether residual connections make the 20-layer sigmoid net learn",
        ),
        "gradients.proper": Words(
            "Xavier initialisation makes the 20-layer sigmoid net learn: ",
            "Xavier initialisation does not make the 20-layer sigmoid net learn: ",
            "hether Xavier initialisation makes the 20-layer sigmoid net learn",
        ),
    },
}

NOWHERE = {"gradients.sigmoid_steeper", "gradients.first_layers"}
"""The claims that an answer leaves to the page."""

VERDICTS = ("yes", "no", "undecided", "not run")
KINDS = (*VERDICTS, "one seed", "mostly lost")


def judged(code: str, kind: str, words: Words) -> Claim:
    """Return a claim with a verdict of a kind."""
    inf = math.inf
    value, low, high, verdict = {
        "yes": (0.165, 0.068, 0.262, "holds"),
        "no": (-0.3, -0.4, -0.2, "does not hold"),
        "undecided": (0.016, -0.024, 0.055, "undecided"),
        "one seed": (0.1, -inf, inf, "undecided"),
        "mostly lost": (0.165, 0.068, 0.262, "undecided"),
        "not run": (math.nan, -inf, inf, "undecided"),
    }[kind]
    if words.equivalence and kind == "yes":
        value, low, high, verdict = 0.001, -0.004, 0.006, "equivalent"
    n = {"one seed": 1, "not run": 0}.get(kind, 3)
    lost = {"plain": n + 1} if kind == "mostly lost" else {}
    estimate = Estimate(value, low, high, n, "seeds")
    return Claim(code, "It is so.", 0.02, estimate, verdict, collapsed=lost)  # type: ignore[arg-type]


def study(name: str) -> Study:
    kind = load(name)
    return kind.parse(kind.preset_values("quick"))


@pytest.mark.parametrize("name", SAID)
def test_an_answer_says_of_each_claim_what_its_verdict_says_and_nothing_else(name: str) -> None:
    made, said = study(name), SAID[name]
    claims_of = {
        code: {kind: judged(code, kind, words) for kind in VERDICTS} for code, words in said.items()
    }
    for kinds in itertools.product(VERDICTS, repeat=len(said)):
        verdicts = dict(zip(said, kinds, strict=True))
        claims = [claims_of[code][kind] for code, kind in verdicts.items()]
        answer = made.answer(claims)
        text = plain(answer)
        for code, kind in verdicts.items():
            wanted = {"yes": "holds", "no": "fails"}.get(kind, "is_open")
            for way in ("holds", "fails", "is_open"):
                assert (getattr(said[code], way) in text) == (way == wanted), (answer, code, kind)
        assert answer.startswith("**")
        assert answer.count("**") == 2
        assert "nan" not in text
        assert "∞" not in text
        assert "inf" not in text


@pytest.mark.parametrize("name", SAID)
def test_an_answer_says_why_a_claim_is_open(name: str) -> None:
    made, said = study(name), SAID[name]
    for kind, why in (
        ("undecided", "Undecided after 3 seeds:"),
        ("one seed", "Undecided after 1 seed:"),
        ("mostly lost", "Undecided, since more runs were lost than are left:"),
        ("not run", "Not judged, for want of results:"),
    ):
        answer = made.answer([judged(code, kind, words) for code, words in said.items()])
        assert answer.startswith(f"**{why}** whether "), answer
        whether, *_ = answer.split(";")
        assert (" (so far " in whether) == (kind != "not run"), "it says of which claim"
        assert answer.count("so far") == (kind != "not run")
    first, *_, last = said
    answer = made.answer([judged(first, "yes", said[first]), judged(last, "undecided", said[last])])
    assert answer.endswith(" is undecided after 3 seeds.")
    assert made.answer([]) == ""


@pytest.mark.parametrize("name", SAID)
def test_every_claim_that_a_study_judges_has_its_words(name: str) -> None:
    stored = Path(__file__).parents[2] / "docs" / "results" / name / "result.json"
    codes = {claim["code"] for claim in json.loads(stored.read_text())["claims"]}
    assert codes <= {*SAID[name], *NOWHERE}


def test_effects_are_written_with_their_intervals_and_in_their_direction() -> None:
    skip = SAID["skip"]
    won = study("skip").answer([judged("skip.wins", "yes", skip["skip.wins"])])
    assert won == "**Skip connections win at [7,7]: +16.5 points of test accuracy (6.8 to 26.2).**"
    fell = study("skip").answer([judged("skip.degrades", "yes", skip["skip.degrades"])])
    assert "+16.5 points of training accuracy lost (6.8 to 26.2)" in fell
    kept = Claim(
        "gradients.sigmoid_vanishes", "", 0.2, Estimate(1.959, 1.936, 1.983, 10, "seeds"), "holds"
    )
    assert study("gradients").answer([kept]) == (
        "**Yes, with sigmoid, over 20 layers: a layer passes on 14.1 % of the gradient (13.8 to "
        "14.4).**"
    )


def test_an_effect_too_small_to_matter_says_so() -> None:
    small = Claim("skip.wins", "", 0.02, Estimate(0.01, 0.005, 0.015, 5, "seeds"), "does not hold")
    assert study("skip").answer([small]) == (
        "**Skip connections do not win at [7,7]: +1.0 points of test accuracy (0.5 to 1.5), where "
        "+2.0 points would matter.**"
    )


def test_a_study_without_words_of_its_own_quotes_its_claims() -> None:
    words = Words("", "", "")
    kinds = ("no", "yes", "undecided", "not run")
    claims = [judged(str(k), kind, words) for k, kind in enumerate(kinds)]
    assert answers.from_texts(claims) == (
        "**It does not hold that “It is so”: −30.0 points (−40.0 to −20.0).** It is so: +16.5 "
        "points (6.8 to 26.2). Whether “It is so” holds is undecided after 3 seeds. Whether “It is "
        "so” holds is not judged, for want of results."
    )
    for kind in KINDS:
        text = answers.from_texts([judged("a", kind, words)])
        ways = (
            text.startswith("**It is so: "),
            "It does not hold that" in text,
            "hether “" in text,
        )
        assert ways == (kind == "yes", kind == "no", kind not in ("yes", "no"))
