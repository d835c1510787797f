"""JSON and arrays are read back as they were, and equal content is equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.errors import AssayError
from assay.runs.files import Arrays, from_json, to_json, write_arrays

floats = st.floats(allow_nan=True, allow_infinity=True)
leaves = st.none() | st.booleans() | st.integers() | floats | st.text()
documents = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text().filter(lambda key: key != "$float"), inner)
    ),
    max_leaves=20,
)


@given(documents)
def test_json_is_read_back_as_it_was_with_nan_and_infinity(document):
    text = to_json(document)
    json.loads(text, parse_constant=pytest.fail)  # NaN as such is not JSON
    np.testing.assert_equal(from_json(text), document)
    assert to_json(from_json(text)) == text


def test_json_does_not_depend_on_the_order_of_keys():
    assert to_json({"b": 1, "a": float("nan")}) == '{"a":{"$float":"nan"},"b":1}\n'
    assert to_json({"a": float("nan"), "b": 1}) == '{"a":{"$float":"nan"},"b":1}\n'


def test_numpy_scalars_are_numbers_and_arrays_are_refused_where_they_stand():
    assert to_json({"a": np.float32(0.5), "n": np.int64(3)}) == '{"a":0.5,"n":3}\n'
    with pytest.raises(TypeError, match=r"curve\.loss\[1\]: ndarray .* put it in the arrays"):
        to_json({"curve": {"loss": [1.0, np.zeros(2)]}})
    with pytest.raises(TypeError, match="key 3"):
        to_json({3: 1})


def test_arrays_are_the_same_bytes_whatever_their_layout_and_order(tmp_path: Path):
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    write_arrays(tmp_path / "a.npz", {"grid": grid, "one": np.array(3)})
    same = {"one": np.array(3), "grid": np.asfortranarray(grid.astype(">f4"))}
    write_arrays(tmp_path / "b.npz", same)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()

    back = Arrays(tmp_path / "a.npz")
    assert list(back) == ["grid", "one"]
    np.testing.assert_array_equal(back["grid"], grid)
    assert back["one"].shape == ()
    with np.load(tmp_path / "a.npz") as npz:  # numpy itself reads it too
        np.testing.assert_array_equal(npz["grid"], grid)
    with pytest.raises(KeyError, match="there are"):
        back["grids"]


def test_objects_are_refused_and_leave_nothing(tmp_path: Path):
    with pytest.raises(TypeError, match="'odd' holds Python objects"):
        write_arrays(tmp_path / "a.npz", {"odd": np.array([None, "x"])})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_arrays_are_one_line(tmp_path: Path, damage: str):
    path = tmp_path / "a.npz"
    write_arrays(path, {"x": np.arange(1000)})
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:2000]
    else:
        content[1500] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssayError, match="is damaged"):
        Arrays(path)["x"]
