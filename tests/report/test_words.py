"""Texts as HTML: escaped, coloured, and with nothing hidden."""

from __future__ import annotations

from assay.report.words import coloured, marked, visible


def test_what_a_text_holds_is_escaped() -> None:
    text = '<script>alert("x")</script> & co'
    for made in (visible(text), coloured(text, [(1, 7, 1.0)]), marked([(text, "in")])):
        assert "<script>" not in made
        assert "&lt;" in made
        assert "&amp; co" in made


def test_what_is_not_seen_is_shown() -> None:
    made = visible("a\u200bb\u202ec\u00add\x07")
    assert [code in made for code in ("200B", "202E", "00AD", "0007")] == [True] * 4
    assert not {"\u200b", "\u202e", "\u00ad", "\x07"} & set(made)
    assert visible("👩‍🚀") == "👩‍🚀"
    assert "200D" in visible("fi\u200dlm")


def test_colours_are_of_the_sign_and_the_share_of_the_largest() -> None:
    made = coloured("good bad so", [(0, 4, 2.0), (5, 8, -1.0), (9, 11, 0.0)])
    assert 'rgba(31, 119, 180, 0.75)" title="+2">good' in made
    assert 'rgba(214, 96, 20, 0.38)" title="-1">bad' in made
    assert made.endswith(" so</bdi>")
    assert coloured("", []) == '<bdi class="text" dir="auto"></bdi>'
    assert "rgba" not in coloured("so", [(0, 2, 0.0)])
