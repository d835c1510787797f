"""What reading does to pixels is said: one line for each cause, with a count and an example."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.data import load_data
from assay.data.altered import SAID
from assay.data.loose import loose_images

Image = pytest.importorskip("PIL.Image")

COLOURS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5
"""Another colour in each pixel, also where nothing of it is seen."""


@pytest.fixture(autouse=True)
def own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ASSAY_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def alpha(low: int) -> np.ndarray:
    return np.full((4, 4, 1), 255, dtype=np.uint8) - np.eye(4, dtype=np.uint8)[..., None] * (
        255 - low
    )


def seen_through(path: Path, low: int = 0) -> None:
    Image.fromarray(np.concatenate([COLOURS, alpha(low)], 2)).save(path)


def grey_seen_through(path: Path) -> None:
    Image.fromarray(np.concatenate([COLOURS[..., :1], alpha(99)], 2)).save(path)


def palette(path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(8)
    image.save(path, transparency=image.getpixel((0, 0)))


def one_colour(path: Path) -> None:
    Image.fromarray(COLOURS).save(path, transparency=tuple(COLOURS[0, 0].tolist()))


def moving(path: Path) -> None:
    first, second = Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)
    first.save(path, save_all=True, append_images=[second])


def on_its_side(path: Path, orientation: int = 6) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS).save(path, exif=exif)


def plain(path: Path) -> None:
    Image.fromarray(COLOURS).save(path)


def opaque(path: Path) -> None:
    seen_through(path, low=255)


def upright(path: Path) -> None:
    on_its_side(path, orientation=1)


def unused_place(path: Path) -> None:
    image = Image.fromarray(COLOURS).quantize(7)
    image.putpalette([*image.getpalette(), 1, 2, 3])
    image.save(path, transparency=7)


ODD: list[tuple[str, Callable[[Path], None], str]] = [
    ("rgba.png", seen_through, "transparent"),
    ("la.png", grey_seen_through, "transparent"),
    ("p.png", palette, "transparent"),
    ("p.gif", palette, "transparent"),
    ("key.png", one_colour, "transparent"),
    ("a.gif", moving, "several"),
    ("a.png", moving, "several"),
    ("a.webp", moving, "several"),
    ("pages.tiff", moving, "several"),
    ("side.jpg", on_its_side, "turned"),
]
EVEN: list[tuple[str, Callable[[Path], None]]] = [
    *(("rgb.png", plain), ("rgb.gif", plain), ("rgb.tiff", plain), ("rgb.webp", plain)),
    *(("opaque.png", opaque), ("upright.jpg", upright), ("unused.png", unused_place)),
    ("two.mpo", moving),  # a camera's second picture is for the camera
]


def folder(*draw: tuple[str, Callable[[Path], None]]) -> Path:
    """Draw images of a class: one that is as it seems, and then those given."""
    home = Path("set/test/cat")
    home.mkdir(parents=True)
    for name, how in (("0.png", plain), *draw):
        how(home / name)
    return home


@pytest.mark.parametrize(("name", "how", "cause"), ODD, ids=[name for name, *_ in ODD])
def test_it_is_said_with_a_count_and_an_example(
    name: str, how: Callable[[Path], None], cause: str
) -> None:
    home = folder((name, how))
    where = f"1 of 2 images of test (the first: set/test/cat/{name})"
    said = [note for note in load_data("set").notes if "the first:" in note]
    assert said == [SAID[cause].format(where=where)]  # type: ignore[index]
    assert said[0] in load_data("set").notes  # from the cache
    names, _, notes = loose_images(home, (3, 4, 4))
    assert names == ("0.png", name)
    where = f"1 of 2 images of set/test/cat (the first: {name})"
    assert notes == (SAID[cause].format(where=where),)  # type: ignore[index]


@pytest.mark.parametrize(("name", "how"), EVEN, ids=[name for name, _ in EVEN])
def test_what_is_read_as_it_is_seen_is_not_mentioned(
    name: str, how: Callable[[Path], None]
) -> None:
    home = folder((name, how))
    assert not [note for note in load_data("set").notes if "the first:" in note]
    assert loose_images(home, (3, 4, 4))[2] == ()


def test_pixels_stay_as_convert_gives_them() -> None:
    folder(("1.png", seen_through), ("2.gif", moving))
    data = load_data("set")
    with Image.open("set/test/cat/2.gif") as moves:
        first = moves.convert("RGB")
    for row, wanted in enumerate((COLOURS, COLOURS, np.asarray(first))):
        assert (data.images[row].permute(1, 2, 0).numpy() == wanted).all()


def test_a_line_is_about_all_images_of_its_split() -> None:
    """Over more than one chunk, and of those held out for validation apart."""
    home = Path("set/train/cat")
    home.mkdir(parents=True)
    for k in range(300):
        colours = np.full((2, 2, 4), 255, dtype=np.uint8)
        colours[0, 0] = (k % 256, k // 256, 7, 0 if k % 3 == 0 else 255)
        Image.fromarray(colours).save(home / f"{k:03}.png")
    counts = {}
    for split in ("train", "validation"):
        data = load_data("set", split=split)
        rows = [int(x[0, 0, 0]) + 256 * int(x[1, 0, 0]) for x in data.images]
        through = [row for row in rows if row % 3 == 0]
        where = f"{len(through)} of {len(rows)} images of {split} (the first: {home}/"
        (note,) = [note for note in data.notes if "transparent" in note]
        assert note.startswith(f"{where}{through[0]:03}.png) have transparent pixels")
        counts[split] = len(through)
    assert sum(counts.values()) == 100
    assert min(counts.values()) > 0


def test_pictures_that_a_function_gives_are_looked_at_too() -> None:
    Path("mine.py").write_text(
        "import numpy as np\n"
        "from PIL import Image\n"
        "def test():\n"
        "    for level in range(8):\n"
        "        x = np.full((4, 4, 4), level * 30 + 9, dtype=np.uint8)\n"
        "        yield [Image.fromarray(x)] * 4, [0, 1, 0, 1]\n"
    )
    (said,) = [note for note in load_data("mine.py:test").notes if "transparent" in note]
    assert said.startswith("pictures of mine.py:test, batch 1, and maybe of later ones, have")
