"""Sets of images that people have: their fingerprints stand in the addresses of stored trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.data import load_data

FINGERPRINTS = {
    ("cifar10", None, "train"): "b68a8509a4a6fa79520ebaad98ad554a262128541be5992d877fbe4c27f8b71d",
    ("cifar10", None, "validation"): (
        "6e2d899242dd40e9450a137c0758c4bb7438b7c10e66f31310c79a98042079a6"
    ),
    ("cifar10", None, "test"): "6eddf1b0858f0242742e73bf97a63361a28dee8f4d709d729046a9c462b2d862",
    ("mnist", None, "train"): "0f5074fc34e4add6d4404b482ccce40eaf28417a18494b6108894765d7804b5d",
    ("mnist", None, "validation"): (
        "870d497e4519309de76cae791393674d49e3bd1e6d8a8c1497005016d2bf6f8c"
    ),
    ("mnist", None, "test"): "a78c7f35e8407c8f35cee60971eb0c83fbd413e806e7333da4688fb60820b1d1",
    ("fashion_mnist", None, "train"): (
        "5411a6ae4dbd03eee4efb6d7a969b86e3eb8226319a7cd9278fdbe771a0b5c8b"
    ),
    ("fashion_mnist", None, "validation"): (
        "5f3876acfe22de2310b706269eeecfd2109b943aa15ed95fb379d2437eec9e09"
    ),
    ("fashion_mnist", None, "test"): (
        "9483054de99cf115a574a97b4c8006958f77f1fd8e8f6683853d35bdf1b95810"
    ),
    ("clothing", 32, "train"): "9ab1818c307b654b48c61300844a89d1db792819672aebe96ac8965a276913b7",
    ("clothing", 32, "validation"): (
        "c4124d02af2ec21e03bc67a6312990729c625ee777f2c481d0f84dd21297cae8"
    ),
    ("clothing", 32, "test"): "410d0bfba3bf13d08dd89f696461e6417842d851136c37248fe2548b08909b5a",
}


@pytest.fixture(scope="module")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache: train and validation are decoded together."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize(
    ("name", "size", "split"),
    [
        pytest.param(*key, marks=[] if key == ("clothing", 32, "test") else [pytest.mark.slow])
        for key in FINGERPRINTS
    ],
)
def test_sets_in_stored_trials_never_change(
    name: str, size: int | None, split: str, shared_data: Path, decoded: Path
) -> None:
    for package in ("PIL", "pyarrow"):
        pytest.importorskip(package)
    if not (shared_data / name).is_dir():
        pytest.skip(f"no {name} in {shared_data}")
    data = load_data(shared_data / name, split=split, size=size, cache=decoded)
    assert data.fingerprint == FINGERPRINTS[name, size, split]
