"""Make the bundled digits: 5,000 + 1,000 images of MNIST, the same number of each class.

    python tools/make_digits.py FOLDER src/assay/data/bundled/digits.npz

FOLDER holds the parquet files of ylecun/mnist on the Hugging Face hub.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

SEED = 0
PER_CLASS = {"train": 500, "test": 100}


def chosen(folder: Path, split: str, per_class: int) -> dict[str, np.ndarray]:
    """Return images uint8 (n, 28, 28), labels uint8 (n,) and rows int32 (n,), in MNIST's order."""
    table = pq.read_table(sorted(folder.glob(f"{split}-*.parquet")))
    labels = table["label"].to_numpy()
    rng = np.random.default_rng(SEED)
    rows = np.sort(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(labels == digit), per_class, replace=False)
                for digit in range(10)
            ]
        )
    )
    images = [
        np.asarray(Image.open(io.BytesIO(table["image"][int(row)]["bytes"].as_py())))
        for row in rows
    ]
    return {
        f"{split}_images": np.stack(images),
        f"{split}_labels": labels[rows].astype(np.uint8),
        f"{split}_rows": rows.astype(np.int32),
    }


if __name__ == "__main__":
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    arrays: dict[str, np.ndarray] = {}
    for split, per_class in PER_CLASS.items():
        arrays |= chosen(source, split, per_class)
    np.savez_compressed(target, **arrays)
    print(f"{target}: {target.stat().st_size:,} bytes")
