"""Files of saved predictions: what they mean, and what is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from assay.data.predictions import load_predictions
from assay.errors import AssayError

GOOD = "id,label,p_cat,p_dog,camera,hour\nb,cat,0.9,0.1,phone,7.5\na,dog,0.7,0.3,,20\n"


def written(folder: Path, text: str, name: str = "said.csv") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_columns_are_what_they_are_called_and_rows_stand_in_the_order_of_ids(
    tmp_path: Path,
) -> None:
    said = load_predictions(written(tmp_path, GOOD))
    assert said.classes == ("cat", "dog")
    assert said.ids == ("a", "b")
    assert said.labels.tolist() == [1, 0]
    np.testing.assert_allclose(said.answer.numpy(), [[0.7, 0.3], [0.9, 0.1]], rtol=1e-6)
    assert said.metadata == {"camera": (None, "phone"), "hour": ("20", "7.5")}
    lines = GOOD.splitlines()
    other = written(tmp_path, "\n".join([lines[0], lines[2], lines[1]]) + "\n", "other.csv")
    assert load_predictions(other).fingerprint == said.fingerprint
    assert load_predictions(other).mark == said.mark


def test_the_same_in_json_lines_and_in_arrays(tmp_path: Path) -> None:
    lines = '{"label": 0, "p_cat": 0.9, "p_dog": 0.1}\n{"label": 1, "p_cat": 0.7, "p_dog": 0.3}\n'
    said = load_predictions(written(tmp_path, lines, "said.jsonl"))
    np.savez(
        tmp_path / "said.npz",
        labels=np.array([0, 1]),
        probabilities=np.array([[0.9, 0.1], [0.7, 0.3]]),
        classes=np.array(["cat", "dog"]),
        hour=np.array([7.5, np.nan]),
        pixels=np.zeros((2, 3)),
    )
    arrays = load_predictions(tmp_path / "said.npz")
    assert arrays.metadata == {"hour": (7.5, None)}
    for one in (said, arrays):
        assert one.classes == ("cat", "dog")
        assert one.labels.tolist() == [0, 1]
        assert one.access == "scores"
    assert said.mark == arrays.mark


def test_predicted_classes_alone_are_labels(tmp_path: Path) -> None:
    said = load_predictions(written(tmp_path, "y_true,predicted\n10,2\n2,2\n"))
    assert said.classes == ("2", "10")
    assert said.labels.tolist() == [1, 0]
    assert said.answer.tolist() == [0, 0]
    assert said.access == "labels"


def test_columns_of_outputs_are_brought_into_the_order_that_is_asked_for(tmp_path: Path) -> None:
    said = load_predictions(written(tmp_path, GOOD), classes=("dog", "cat"))
    assert said.labels.tolist() == [0, 1]
    assert said.answer.argmax(1).tolist() == [1, 1]


BAD = {
    "sums": ("label,p_0,p_1\n0,0.9,0.1\n1,0.5,0.7\n", "row 2 .* sum to 1.2 .*logit_NAME"),
    "negative": ("label,p_0,p_1\n0,1.1,-0.1\n", "row 1 .*go down to -0.1"),
    "nan": ("label,p_0,p_1\n0,nan,0.1\n", "row 1 .* NaN or infinity"),
    "text": ("label,p_0,p_1\n0,high,0.1\n", "row 1 .*'high' in column 'p_0', which is no number"),
    "no label": ("p_0,p_1\n0.5,0.5\n", "no label column .*looked for label"),
    "nothing said": ("label,hour\n1,2\n", "nothing that a model said .*columns: label, hour"),
    "class": ("label,p_cat,p_dog\nfox,0.5,0.5\n", "row 1 .* is 'fox', which is none of the 2"),
    "empty label": ("label,p_cat,p_dog\n,0.5,0.5\n", "row 1 .* is empty"),
    "empty truth": ("label,prediction\na,a\n,b\nb,b\n", "column 'label' of row 2 .* is empty"),
    "empty answer": ("label,prediction\na,a\nb, \n", "predicted class of row 2 .* is empty"),
    "class twice": (
        "label,p_cat,p_dog,prob_cat\ncat,0.9,0.1,0.2\n",
        "columns 'p_cat' and 'prob_cat' of .* are both outputs of the class 'cat'",
    ),
    "header twice": ("label,prediction, label\na,b,b\nb,a,a\n", "two columns 'label'"),
    "output twice": ("label,p_a,p_b,p_a\na,1,0,0\n", "two columns 'p_a'"),
    "predicted": ("label,prediction,p_a,p_b\na,c,0.5,0.5\n", "predicted class of row 1 .*'c'"),
    "both": ("label,p_0,logit_1\n0,0.9,0.1\n", "of probabilities and of logits"),
    "alike": ("label,logit_0,logit_1\n0,0.9,0.1\n1,0.2,0.8\n", "are probabilities"),
    "twice": ("id,label,prediction\nx,0,0\ny,1,1\nx,0,1\n", "rows 1 and 3 .*same id 'x'"),
    "one class": ("label,prediction\n0,0\n0,0\n", "give two or more"),
    "no rows": ("label,prediction\n", "is empty"),
    "short row": ("label,prediction\n0\n", "row 1 .*not as many fields"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_with_its_row(name: str, tmp_path: Path) -> None:
    text, said = BAD[name]
    with pytest.raises(AssayError, match=said) as error:
        load_predictions(written(tmp_path, text))
    assert "\n" not in str(error.value)


def test_a_row_without_a_label_is_refused_in_every_format(tmp_path: Path) -> None:
    lines = '{"label": "cat", "prediction": "cat"}\n{"label": %s"prediction": "dog"}\n'
    for label in ('null, "', 'NaN, "', '"", "'):
        file = written(tmp_path, lines.replace('%s"', label), "said.jsonl")
        with pytest.raises(AssayError, match=r"column 'label' of row 2 .* is empty"):
            load_predictions(file)
    absent = '{"label": "cat", "prediction": "cat"}\n{"prediction": "dog"}\n'
    with pytest.raises(AssayError, match=r"column 'label' of row 2 .* is empty"):
        load_predictions(written(tmp_path, absent, "said.jsonl"))
    np.savez(tmp_path / "said.npz", label=np.array([0, 1, np.nan]), prediction=np.array([0, 1, 1]))
    with pytest.raises(AssayError, match=r"column 'label' of row 3 .* is empty"):
        load_predictions(tmp_path / "said.npz")


def test_classes_that_do_not_match(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    with pytest.raises(AssayError, match=r"names 3 .*outputs for 2"):
        load_predictions(file, classes=("cat", "dog", "fox"))
    with pytest.raises(AssayError, match="are cat, dog, and --classes says cat, fox"):
        load_predictions(file, classes=("cat", "fox"))
    with pytest.raises(AssayError, match="did you mean 'label'"):
        load_predictions(file, label="lable")


def test_arrays_that_are_none(tmp_path: Path) -> None:
    file = written(tmp_path, "not a zip", "said.npz")
    with pytest.raises(AssayError, match=r"cannot be read as an \.npz"):
        load_predictions(file)
    np.savez(file, label=np.arange(3), logits=np.zeros((2, 3)))
    with pytest.raises(AssayError, match=r"wanted are numbers \(N, K\), a row for each of 3"):
        load_predictions(file)
    np.savez(file, label=np.array([{}], dtype=object))
    with pytest.raises(AssayError, match=r"cannot be read as an \.npz"):
        load_predictions(file)
    with pytest.raises(AssayError, match="is not there"):
        load_predictions(tmp_path / "none.npz")


def test_a_flipped_byte_of_an_npz_is_an_error_of_ours_or_is_read(tmp_path: Path) -> None:
    file = tmp_path / "said.npz"
    np.savez_compressed(file, label=np.array([0, 1]), prediction=np.array([0, 1]))
    whole, refused = file.read_bytes(), 0
    for place in range(0, len(whole), 2):
        for bit in (1, 128):
            changed = bytes((whole[place] ^ bit,))
            file.write_bytes(whole[:place] + changed + whole[place + 1 :])
            try:
                load_predictions(file)
            except AssayError:
                refused += 1
    assert refused
