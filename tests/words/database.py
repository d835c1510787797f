"""A WordNet of a few words, written in the format of wndb(5WN)."""

from __future__ import annotations

from pathlib import Path

SYNSETS = {
    "noun": [
        ("n", ["film", "movie", "picture"], [("@", 2, 0, 0)]),
        ("n", ["plot"], [("@", 2, 0, 0)]),
        ("n", ["work"], [("~", 0, 0, 0), ("~", 1, 0, 0)]),
    ],
    "verb": [("v", ["start", "begin", "get_down"], [("!", 1, 1, 1)]), ("v", ["end"], [])],
    "adj": [
        ("a", ["good"], [("!", 1, 1, 1)]),
        ("a", ["bad"], [("!", 0, 1, 1)]),
        ("s", ["great", "grand(a)", "fine", "decent"], [("&", 0, 0, 0)]),
        ("s", ["poor", "weak"], [("&", 1, 0, 0)]),
        ("s", ["moving", "touching"], []),
        ("s", ["fine", "good"], []),
    ],
    "adv": [("r", ["quickly"], [])],
}
"""(part of speech, words, pointers as (symbol, number of the other, its word, the other's))."""
EXCEPTIONS = {
    "noun": ["children child"],
    "verb": ["began begin", "begun begin"],
    "adj": [],
    "adv": [],
}
LICENCE = "  1 This is no WordNet, but written like one.\n"


def write(folder: Path) -> Path:
    """Write the database files, and return their folder."""
    for name, synsets in SYNSETS.items():
        letter = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}[name]

        def lines(offsets: list[int], some: list, letter: str = letter) -> list[str]:  # type: ignore[type-arg]
            made = []
            for at, (kind, words, pointers) in zip(offsets, some, strict=True):
                said = " ".join(f"{word} 0" for word in words)
                to = " ".join(
                    f"{symbol} {offsets[other]:08d} {letter} {mine:02x}{theirs:02x}"
                    for symbol, other, mine, theirs in pointers
                )
                head = f"{at:08d} 00 {kind} {len(words):02x} {said} {len(pointers):03d}"
                made.append(f"{head} {to} | what it means\n" if to else f"{head} | what it means\n")
            return made

        offsets = [0] * len(synsets)
        for _ in range(2):  # numbers have eight digits, so lengths do not depend on them
            at, found = len(LICENCE), []
            for line in lines(offsets, synsets):
                found.append(at)
                at += len(line)
            offsets = found
        (folder / f"data.{name}").write_text(LICENCE + "".join(lines(offsets, synsets)))
        places: dict[str, list[int]] = {}
        for offset, (_, words, _) in zip(offsets, synsets, strict=True):
            for word in words:
                places.setdefault(word.partition("(")[0], []).append(offset)
        rows = [
            f"{word} {letter} {len(own)} 0 {len(own)} 0 {' '.join(f'{o:08d}' for o in own)}\n"
            for word, own in sorted(places.items())
        ]
        (folder / f"index.{name}").write_text(LICENCE + "".join(rows))
        (folder / f"{name}.exc").write_text("".join(f"{row}\n" for row in EXCEPTIONS[name]))
    return folder
