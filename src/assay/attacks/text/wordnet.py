"""WordNet (Miller 1995; Fellbaum 1998), read from its own database files: synonyms and antonyms.

The format is that of wndb(5WN), versions 3.0 and 3.1. Files are mapped and searched, not loaded.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Literal

from assay.disk import cache_folder, data_folders
from assay.errors import AssayError

Pos = Literal["n", "v", "a", "r"]
FILES: dict[Pos, str] = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
ENDINGS: dict[Pos, tuple[tuple[str, str], ...]] = {
    "n": (
        ("s", ""),
        *(("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
        *(("men", "man"), ("ies", "y")),
    ),
    "v": (
        *(("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", "")),
        *(("ing", "e"), ("ing", "")),
    ),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}
"""The endings that morphy(7WN) detaches, and what it puts in their place."""
NEAR = frozenset("@~&")
"""Pointers to what is more general, more special, and similar."""
VOWELS = "aeiou"
PARTICIPLES = ("en", "ne", "wn", "un")
SHORT = 6
"""Letters of an adjective that still takes -er and -est."""


def places() -> Iterator[Path]:
    """Yield the folders where WordNet may be, in the order they are looked at: $WNHOME, Debian's
    wordnet-base, the folders where data sets are looked for and that of what is cached, nltk's
    data."""
    if home := os.environ.get("WNHOME"):
        yield from (Path(home), Path(home) / "dict")
    yield Path("/usr/share/wordnet")
    yield from (place / "wordnet" for place in (*data_folders(), cache_folder(None)))
    roots = [Path(p) for p in os.environ.get("NLTK_DATA", "").split(os.pathsep) if p]
    for root in (*roots, Path.home() / "nltk_data", Path("/usr/share/nltk_data")):
        for name in ("wordnet", "wordnet31"):
            yield root / "corpora" / name


def found() -> Path | None:
    """Return the folder that holds WordNet on this machine, or None."""
    return next((place for place in places() if (place / "data.noun").is_file()), None)


def wordnet() -> WordNet:
    """Return the WordNet of this machine.

    Raises:
        AssayError: there is none; says where it is looked for.
    """
    folder = found()
    if folder is None:
        raise AssayError(
            "WordNet is not on this machine: install it (Debian: wordnet-base), or set WNHOME to "
            "the folder of its database files (data.noun, index.noun, ...)"
        )
    return opened(folder)


@cache
def opened(folder: Path) -> WordNet:
    """Return the WordNet in a folder, opened once."""
    return WordNet(folder)


class WordNet:
    """The database files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._maps: dict[str, mmap.mmap] = {}

    def lemmas(self, word: str, pos: Pos) -> list[str]:
        """Return the base forms of a word as a part of speech, itself included; none where
        WordNet does not have it.
        """
        word = word.lower()
        irregular = self._row(f"{FILES[pos]}.exc", word)
        forms = irregular[1:] if irregular else []
        if not forms:
            cut = [(word[: -len(end)] + new) for end, new in ENDINGS[pos] if word.endswith(end)]
            forms = [form for form in cut if len(form) > 1]
        known = [form for form in (word, *forms) if self._row(f"index.{FILES[pos]}", form)]
        return list(dict.fromkeys(known))

    @lru_cache(maxsize=2**14)  # noqa: B019 - one WordNet lives as long as the process
    def pos(self, word: str) -> frozenset[Pos]:
        """Return the parts of speech that a word can be."""
        return frozenset(pos for pos in FILES if self.lemmas(word, pos))

    @lru_cache(maxsize=2**14)  # noqa: B019
    def synonyms(self, word: str) -> tuple[str, ...]:
        """Return the single words that share a meaning with a word, in its form (plural, tense),
        those of its commonest meanings first.
        """
        made: dict[str, None] = {}
        for pos in FILES:
            for lemma in self.lemmas(word, pos):
                for offset in self._offsets(lemma, pos):
                    self._add(made, pos, offset, pos, word, lemma)
        made.pop(word.lower(), None)
        return tuple(made)

    @lru_cache(maxsize=2**14)  # noqa: B019
    def related(self, word: str) -> tuple[str, ...]:
        """Return the single words that are near a word without sharing a meaning, in its form: what
        is similar (of adjectives), more general or more special, and then what is as special.
        """
        near: dict[str, None] = {}
        beside: dict[str, None] = {}
        for pos in FILES:
            for lemma in self.lemmas(word, pos):
                for offset in self._offsets(lemma, pos):
                    for symbol, other, kind, *_ in list(self._pointers(pos, offset)):
                        if symbol not in NEAR:
                            continue
                        self._add(near, kind, other, pos, word, lemma)
                        if symbol == "@":
                            for below, one, of, *_ in list(self._pointers(kind, other)):
                                if below == "~":
                                    self._add(beside, of, one, pos, word, lemma)
        same = {word.lower(), *self.synonyms(word.lower())}
        return tuple(one for one in {**near, **beside} if one not in same)

    def _add(
        self, made: dict[str, None], kind: str, offset: int, pos: Pos, word: str, lemma: str
    ) -> None:
        """Add the single words of a meaning, in the form that `word` is of `lemma`."""
        for other in self._words(kind, offset):
            form = self.inflected(other, pos, word.lower(), lemma)
            if other != lemma and other.isalpha() and form:
                made[form] = None

    @lru_cache(maxsize=2**14)  # noqa: B019
    def antonyms(self, word: str) -> frozenset[str]:
        """Return the base forms of what a word is the opposite of: of its own senses, and, of an
        adjective that is like another one, what that is the opposite of."""
        made: set[str] = set()
        for pos in FILES:
            for lemma in self.lemmas(word, pos):
                for offset in self._offsets(lemma, pos):
                    made |= self._opposites(pos, offset, lemma)
        return frozenset(made)

    def opposed(self, a: str, b: str) -> bool:
        """Return whether two words are opposites in some sense of each, in any form."""
        return bool(self._bases(b) & self.antonyms(a) or self._bases(a) & self.antonyms(b))

    def _bases(self, word: str) -> set[str]:
        return {lemma for pos in FILES for lemma in self.lemmas(word, pos)}

    def inflected(self, lemma: str, pos: Pos, form: str, base: str) -> str | None:
        """Return a lemma in the form that `form` is of `base`: plural, third person, past, -ing,
        -er, -est; None of a long adjective, which takes "more" instead.
        """
        if form == base:
            return lemma
        endings = {"n": ("s",), "v": ("ing", "s"), "a": ("est", "er"), "r": ("est", "er")}[pos]
        kind = next((end for end in endings if form.endswith(end)), "ed" if pos == "v" else "s")
        if pos in "ar" and kind == "s":
            kind = "er"  # better, worse
        irregular = self._irregular[pos].get(lemma, [])
        if pos == "v" and kind == "ed":
            # a past before a participle (went, gone), unless it is of one
            past = [one for one in irregular if not one.endswith(("ing", "s"))]
            participles = [one for one in past if one.endswith(PARTICIPLES)]
            order = [one for one in past if one not in participles] + participles
            if order:
                return order[-1 if form.endswith(PARTICIPLES) else 0]
        elif pos == "n" and irregular:
            return irregular[0]
        elif same := [one for one in irregular if one.endswith(kind)]:
            return same[0]
        return None if pos in "ar" and len(lemma) > SHORT else _regular(lemma, kind)

    @cached_property
    def _irregular(self) -> dict[Pos, dict[str, list[str]]]:
        made: dict[Pos, dict[str, list[str]]] = {pos: {} for pos in FILES}
        for pos, name in FILES.items():
            file = self.folder / f"{name}.exc"
            for line in file.read_text().splitlines() if file.is_file() else ():
                form, *bases = line.split()
                for base in bases:
                    made[pos].setdefault(base, []).append(form)
        return made

    # -- the files -------------------------------------------------------------------------

    def _map(self, name: str) -> mmap.mmap | None:
        if name not in self._maps:
            path = self.folder / name
            if not path.is_file() or not path.stat().st_size:
                if name.endswith(".exc"):
                    return None
                raise AssayError(f"{self.folder} is no whole WordNet: it has no {name}")
            with path.open("rb") as file:
                self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._maps[name]

    def _row(self, name: str, key: str) -> list[str] | None:
        """Return the line of a sorted file that begins with `key`, split, or None."""
        held = self._map(name)
        wanted = key.replace(" ", "_").encode() + b" "
        if held is None or b" " in wanted[:-1]:
            return None
        low, high = 0, len(held)
        while low < high:
            middle = held.rfind(b"\n", low, (low + high) // 2) + 1 or low
            end = held.find(b"\n", middle)
            line = held[middle : len(held) if end < 0 else end]
            if line.startswith(wanted):
                return line.decode("latin-1").split()
            if line < wanted:
                low = len(held) if end < 0 else end + 1
            else:
                high = middle
        return None

    def _offsets(self, lemma: str, pos: Pos) -> list[int]:
        row = self._row(f"index.{FILES[pos]}", lemma)
        return [] if row is None else [int(offset) for offset in row[-int(row[2]) :]]

    def _line(self, pos: str, offset: int) -> list[str]:
        held = self._map(f"data.{FILES['a' if pos == 's' else pos]}")  # type: ignore[index]
        assert held is not None
        end = held.find(b"\n", offset)
        return held[offset:end].partition(b" | ")[0].decode("latin-1").split()

    def _words(self, pos: str, offset: int) -> list[str]:
        row = self._line(pos, offset)
        count = int(row[3], 16)
        # an adjective may say where it stands: galore(ip)
        return [word.partition("(")[0].lower() for word in row[4 : 4 + 2 * count : 2]]

    def _pointers(self, pos: str, offset: int) -> Iterator[tuple[str, int, str, int, int]]:
        """Yield (symbol, offset, part of speech, number of its word, of the other's word)."""
        row = self._line(pos, offset)
        start = 5 + 2 * int(row[3], 16)
        for at in range(start, start + 4 * int(row[start - 1]), 4):
            symbol, other, kind, pair = row[at : at + 4]
            yield symbol, int(other), kind, int(pair[:2], 16), int(pair[2:], 16)

    def _opposites(self, pos: str, offset: int, lemma: str | None) -> set[str]:
        """Return the opposites of one word of a meaning, or of all (None), and of what it is
        like."""
        own, made = self._words(pos, offset), set[str]()
        for symbol, other, kind, mine, theirs in self._pointers(pos, offset):
            if symbol == "!" and lemma in (None, own[mine - 1]):
                made.add(self._words(kind, other)[theirs - 1])
            elif symbol == "&" and lemma is not None and self._line(pos, offset)[2] == "s":
                made |= self._opposites(kind, other, None)
        return made


def _regular(lemma: str, kind: str) -> str:
    """Return a regular form of a lemma: with -s, -ed, -ing, -er or -est.

    >>> _regular("try", "ed"), _regular("make", "ing"), _regular("go", "s")
    ('tried', 'making', 'goes')
    """
    after_consonant = len(lemma) > 1 and lemma[-2] not in VOWELS
    if kind == "s":
        if lemma.endswith("y") and after_consonant:
            return lemma[:-1] + "ies"
        hissing = lemma.endswith(("s", "x", "z", "ch", "sh"))
        return lemma + ("es" if hissing or (lemma.endswith("o") and after_consonant) else "s")
    if kind == "ing":
        silent = lemma.endswith("e") and not lemma.endswith(("ee", "oe", "ye"))
        return (lemma[:-1] if silent else lemma) + "ing"
    if lemma.endswith("e"):
        return lemma + kind[1:]
    if lemma.endswith("y") and after_consonant:
        return lemma[:-1] + "i" + kind
    return lemma + kind
