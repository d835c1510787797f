"""How long a data set takes to read: the first time, and every time after.

    python benchmarks/data.py [--data NAME] [--out FILE.json]

NAME is an image set with 50,000 rows or so; `ASSAY_DATA` says where it lies. The first reading
decodes into a cache made for this run and removed after it. The second is a fresh process, timed
from the call of `load_data` (imports done) until every pixel of train and validation has been
read; augmentation is timed on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SECOND = """
import json, sys, time
import torch
from assay.data import load_data
start = time.perf_counter()
parts = [load_data(sys.argv[1], split=split) for split in ("train", "validation")]
mapped = time.perf_counter() - start
read = [part.images.clone() for part in parts]
ready = time.perf_counter() - start
x = [image.float().div_(255) for image in read]
floats = time.perf_counter() - start
print(json.dumps({"rows": sum(map(len, parts)), "mapped_s": mapped, "uint8_s": ready,
                  "float32_s": floats, "shape": parts[0].shape}))
"""


def first_reading(name: str) -> dict[str, float]:
    """Decode train and validation; return seconds and rows per second."""
    from assay.data import load_data

    start = time.perf_counter()
    rows = sum(len(load_data(name, split=split)) for split in ("train", "validation"))
    seconds = time.perf_counter() - start
    return {"decode_s": seconds, "decode_rows_per_s": rows / seconds}


def augmentation(name: str) -> dict[str, float]:
    """Return images per second of each augmentation, batches of 128 on one thread."""
    import torch

    from assay.core.random import Stream
    from assay.data import CropFlip, Heavy, Simple, load_data

    torch.set_num_threads(1)
    x, _ = load_data(name, split="validation").take(128)
    stream = Stream(0).child("benchmark")
    rates = {}
    for config in (CropFlip(), Simple(), Heavy()):
        config(x, stream.rows(range(len(x))))
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < 1.0:
            config(x, stream.rows(range(len(x))))
            done += len(x)
        rates[f"{config.name}_images_per_s"] = done / (time.perf_counter() - start)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ASSAY_CACHE"] = cache
        result: dict[str, Any] = {"data": options.data, "cores": os.cpu_count()}
        result |= {"machine": platform.processor() or platform.machine()}
        result |= first_reading(options.data)
        second = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", SECOND, options.data],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(3)
        ]
        result |= min(second, key=lambda one: one["uint8_s"])
        result["worst_uint8_s"] = max(one["uint8_s"] for one in second)
        result |= augmentation(options.data)
    for key, value in result.items():
        print(f"{key:28} {value:,.4g}" if isinstance(value, float) else f"{key:28} {value}")
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
