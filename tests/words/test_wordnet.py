"""WordNet's files are read as wndb(5WN) has them; the real one where it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from assay.attacks.text import wordnet as reader
from assay.attacks.text.substitutes import Synonyms
from assay.attacks.text.wordnet import opened, wordnet
from assay.errors import AssayError


def test_synonyms_in_the_words_form() -> None:
    found = wordnet()
    assert found.synonyms("film") == ("movie", "picture")
    assert found.synonyms("Films") == ("movies", "pictures")
    assert found.synonyms("started") == ("began",)
    assert found.synonyms("starts") == ("begins",)
    assert found.synonyms("great") == ("grand", "fine", "decent")  # grand(a): where it stands
    assert found.synonyms("plot") == found.synonyms("xyzzy") == ()


def test_related_words_the_nearer_first() -> None:
    found = wordnet()
    assert found.related("Films") == ("works", "plots")  # more general, then as special
    assert found.related("work") == ("film", "movie", "picture", "plot")
    assert found.related("great") == ("good",)  # similar
    assert found.related("quickly") == found.related("xyzzy") == ()
    of = "a great film", 1
    assert Synonyms().of(*of) == ["grand", "fine", "decent"]
    assert Synonyms(related=True).of(*of) == ["grand", "fine", "decent", "good"]
    assert Synonyms().model_dump() == {"name": "wordnet", "most": 50}, "or old trials move"


def test_it_is_found_in_any_of_the_data_folders_and_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WNHOME", "NLTK_DATA"):
        monkeypatch.delenv(name, raising=False)
    one, two, kept = (tmp_path / name for name in ("one", "two", "kept"))
    monkeypatch.setenv("ASSAY_DATA", f"{one}{os.pathsep}{two}")
    monkeypatch.setenv("ASSAY_CACHE", str(kept))
    there = list(reader.places())
    assert there[1:3] == [one / "wordnet", two / "wordnet"]
    assert kept / "wordnet" in there


def test_antonyms_of_a_word_and_of_what_it_is_like() -> None:
    found = wordnet()
    assert found.antonyms("good") == {"bad"}
    assert found.antonyms("great") == {"bad"}
    assert found.opposed("good", "bad")
    assert found.opposed("bad", "great")
    assert not found.opposed("good", "fine")
    assert found.opposed("begins", "ended") is False  # of "start" alone, in these files
    assert found.opposed("started", "ended")
    assert found.pos("fine") == {"a"}
    assert found.pos("began") == {"v"}


def test_where_it_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, database: Path
) -> None:
    assert reader.found() == database
    monkeypatch.setattr(reader, "places", lambda: iter([tmp_path, database]))
    assert reader.found() == database
    monkeypatch.setattr(reader, "places", lambda: iter([tmp_path]))
    with pytest.raises(AssayError, match="WNHOME"):
        wordnet()
    (tmp_path / "data.noun").write_text("")
    with pytest.raises(AssayError, match="no whole WordNet"):
        wordnet().synonyms("film")


def test_the_real_one(shared_data: Path) -> None:
    if not (shared_data / "wordnet" / "data.noun").is_file():
        pytest.skip("no WordNet among the real data")
    found = opened(shared_data / "wordnet")
    assert {"movie", "picture", "flick"} <= set(found.synonyms("film"))
    assert {"movies", "pictures"} <= set(found.synonyms("films"))
    assert "went" in found.synonyms("moved")
    assert "gone" not in found.synonyms("moved")
    assert found.opposed("good", "bad")
    assert found.opposed("lovely", "ugly")
    assert not found.opposed("good", "great")
    assert found.pos("quickly") == {"r"}
    assert "children" in found.synonyms("kids")
