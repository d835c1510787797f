"""What a study answers, in words that need no page: written from verdicts, and by them alone.

A study says of each claim how it reads where it holds, where it does not, and after "whether"; the
verdict chooses among the three, so an answer cannot contradict it. `**` marks what is set in bold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from assay.report.numerals import bare
from assay.stats import Claim


@dataclass(frozen=True)
class Scale:
    """How the effect of a claim is written.

    Attributes:
        pattern: the words, with {value}, {low} and {high}.
        write: how a number is written there.
        matters: what is said of a smallest effect that matters, with {delta}; empty: nothing.
        falls: what is written falls where the effect rises, so its ends change places.
    """

    pattern: str
    write: Callable[[float], str]
    matters: str = ""
    falls: bool = False

    def said(self, claim: Claim) -> str:
        """Return the effect and its interval."""
        found = claim.estimate
        value = self.write(found.value)
        if not found.bounded:
            return self.pattern.replace(" ({low} to {high})", "").format(value=value)
        ends = [self.write(end).lstrip("+") for end in (found.low, found.high)]
        low, high = reversed(ends) if self.falls else ends
        return self.pattern.format(value=value, low=low, high=high)

    def so_far(self, claim: Claim) -> str:
        """Return the effect of a claim that is open, to stand in brackets after it."""
        return f"so far {self.said(claim)}".replace(" (", ", ").replace(")", "")

    def too_small(self, claim: Claim) -> str:
        """Return what would have mattered, where there is an effect, but a smaller one."""
        if not self.matters or not claim.estimate.low > 0:
            return ""
        return ", where " + self.matters.format(delta=self.write(claim.delta))


def points(of: str) -> Scale:
    """Return the scale of a difference of fractions, with the sign that its claim has.

    Args:
        of: what they are points of: "test accuracy"; of a claim that something is lost, "overlap
            lost".
    """
    return Scale(
        f"{{value}} points of {of} ({{low}} to {{high}})",
        lambda x: bare(x, "points"),
        "{delta} points would matter",
    )


SHARE = Scale("{value} % ({low} to {high})", lambda x: bare(x, "fraction"))
"""The scale of a share that is compared with a fixed one, which the words name."""


@dataclass(frozen=True)
class Wording:
    """What is said of a claim.

    Attributes:
        holds: a clause that is true where it holds, or where it is equivalent.
        fails: one that is true where it does not hold.
        whether: what follows "whether" where it is undecided, or nothing was measured.
        scale: how its effect is written.
    """

    holds: str
    fails: str
    whether: str
    scale: Scale

    def decided(self, claim: Claim) -> str:
        """Return the sentence of a decided claim, without its full stop."""
        if claim.verdict == "does not hold":
            return f"{self.fails}: {self.scale.said(claim)}{self.scale.too_small(claim)}"
        return f"{self.holds}: {self.scale.said(claim)}"


def compose(claims: Sequence[Claim], wordings: Mapping[str, Wording]) -> str:
    """Return the answer: what is decided, the first of it in bold, then what is not.

    Args:
        claims: the judged claims of a study.
        wordings: what is said of each by its code, the most important first; claims that are not
            among them are left to the page.
    """
    judged = {claim.code: claim for claim in claims}
    said = [(wording, judged[code]) for code, wording in wordings.items() if code in judged]
    decided = [wording.decided(claim) for wording, claim in said if _is_decided(claim)]
    open_claims: dict[str, list[str]] = {}
    for wording, claim in said:
        if not _is_decided(claim):
            leads = not decided and not open_claims
            so_far = f" ({wording.scale.so_far(claim)})" if leads and claim.estimate.n else ""
            question = f"whether {wording.whether}{so_far}"
            open_claims.setdefault(_why_open(claim), []).append(question)
    sentences = [f"{_upper(sentence)}." for sentence in decided]
    for reason, questions in open_claims.items():
        if not sentences:
            sentences.append(f"{_upper(reason)}: {_listed(questions)}.")
        elif len(questions) == 1:
            sentences.append(f"{_upper(questions[0])} is {reason}.")
        else:
            sentences.append(f"{_upper(reason)}: {_listed(questions)}.")
    if not sentences:
        return ""
    return " ".join((_in_bold(sentences[0], whole=bool(decided)), *sentences[1:]))


def from_texts(claims: Sequence[Claim]) -> str:
    """Return an answer made of the claims' own sentences, for a study that has no words for it."""
    return compose(claims, {claim.code: _quoted(claim) for claim in claims})


def _quoted(claim: Claim) -> Wording:
    text = claim.text.rstrip(".")
    unit = {"points": " points", "fraction": " %"}.get(claim.unit, "")
    scale = Scale(
        f"{{value}}{unit} ({{low}} to {{high}})",
        lambda x: bare(x, claim.unit),
        f"{{delta}}{unit} would matter",
    )
    return Wording(text, f"It does not hold that “{text}”", f"“{text}” holds", scale)


def _is_decided(claim: Claim) -> bool:
    return claim.estimate.n > 0 and claim.verdict != "undecided"


def _why_open(claim: Claim) -> str:
    n, of = claim.estimate.n, claim.estimate.of
    if not n:
        return "not judged, for want of results"
    if claim.mostly_lost:
        return "undecided, since more runs were lost than are left"
    return f"undecided after {n} {of[:-1] if n == 1 and of.endswith('s') else of}"


def _listed(questions: Sequence[str]) -> str:
    *others, last = questions
    return f"{'; '.join(others)}; and {last}" if others else last


def _in_bold(sentence: str, *, whole: bool) -> str:
    """Set a sentence in bold, or what stands before its colon."""
    if whole:
        return f"**{sentence}**"
    head, _, rest = sentence.partition(":")
    return f"**{head}:**{rest}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
