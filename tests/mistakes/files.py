"""Files that something is wrong with, one folder of them for all of the table."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from networks.trained import FOLDER
from onnx import TensorProto, helper
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

GOOD = FOLDER / "natural.safetensors"
NETS = '''
import torch
from torch import nn

class Net(nn.Module):
    """A linear classifier of digits; each class below spoils it in its own way."""

    def __init__(self, width=784):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(width, 10)

    def forward(self, x):
        return self.linear(x.flatten(1))

class Silent(Net):
    def forward(self, x):
        return super().forward(x) * torch.nan

class One(Net):
    def forward(self, x):
        return super().forward(x)[:, :1]

class Deep(Net):
    def forward(self, x):
        return super().forward(x)[:, :, None, None]

class Pair(Net):
    def forward(self, x):
        return super().forward(x), x

class Words(Net):
    def forward(self, x):
        return ["cat"] * len(x)

class Short(Net):
    def forward(self, x):
        return super().forward(x)[1:]

def nothing():
    return None

def needs(width):
    return Net(width)

class Colour(Net):
    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 784, 3)

    def forward(self, x):
        return self.linear(self.conv(x).mean((2, 3)))

class Half(Net):
    def forward(self, x):
        return super().forward(x)[:, 0]

def made_class():
    return Net

async def later():
    return Net()

def raises():
    raise RuntimeError("the licence has\\nrun out")

def leaves():
    raise SystemExit(0)

value = 3
'''
BOX = """
import numpy as np

def words(x):
    return ["cat"] * len(x)

def beyond(x):
    return np.full(len(x), 99)

def short(x):
    return np.zeros(len(x) - 1, int)

def above(x):
    return np.full((len(x), 10), 0.5)

def silent(x):
    return np.full((len(x), 10), np.nan)

def raises(x):
    raise KeyError("gone")
"""


class Bomb:
    """Unpickled, it writes a file; nothing may unpickle it."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("burst", "w")


GIVEN = """
import torch
x, y = torch.rand(30, 1, 28, 28), torch.arange(30) % 10
def ends(): return iter(())
def three(): yield x, y, y
def normal(): yield 3 * x - 1, y
def nan(): yield x / 0 * 0, y
def flat(): yield x.flatten(1), y
def hot(): yield x, torch.eye(10)[y]
def high(): yield x, y + 5
def colours(): yield x.repeat(1, 3, 1, 1), y
def words(): yield ["a text"] * 30, y.tolist()
def raises(): yield x[:5], y[:5]; raise OSError("the disk is gone")
def twice(): yield x, ["a"] * 30
twice.classes = ["a", "b", "a", *"cdefghi"]
"""
"""Functions that give no batches, or none that are right for ten digits."""


def made(folder: Path) -> Path:
    """Make all of them below `folder`."""
    _models(folder)
    _weights(folder)
    _images(folder)
    _settings(folder)
    _texts(folder)
    _stores(folder)
    return folder


def _models(at: Path) -> None:
    whole = GOOD.read_bytes()
    (at / "nothing").touch()
    (at / "loop").symlink_to(at / "loop")
    for name in ("empty.safetensors", "empty.onnx", "empty.pt2"):
        (at / name).touch()
    (at / "prose.safetensors").write_text("This is no network at all.\n" * 9)
    (at / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (at / "vast.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    save_file({"weight": torch.zeros(2, 2)}, at / "foreign.safetensors")
    tensors = load_file(GOOD)
    with safe_open(GOOD, "pt") as file:
        about = dict(file.metadata())
    first = next(name for name, tensor in tensors.items() if tensor.ndim == 4)
    save_file({**tensors, first: tensors[first][:1].clone()}, at / "shape.safetensors", about)
    broken = {**tensors, first: torch.full_like(tensors[first], torch.nan)}
    save_file(broken, at / "nan.safetensors", about)
    save_file({k: v for k, v in tensors.items() if k != first}, at / "lacks.safetensors", about)
    save_file(tensors, at / "said.safetensors", dict.fromkeys(about, "{not json"))
    (at / "nets.py").write_text(NETS)
    (at / "box.py").write_text(BOX)
    (at / "syntax.py").write_text("def net(:\n")
    (at / "imports.py").write_text("import a_module_that_nobody_has\n")
    (at / "leaves.py").write_text("raise SystemExit(0)\n")
    with zipfile.ZipFile(at / "program.pt", "w") as file:  # by which TorchScript is known
        file.writestr("program/constants.pkl", b"")
    (at / "prose.onnx").write_text("This is no network at all.\n" * 9)
    _onnx(at / "dozen.onnx", (1, 12))
    _onnx(at / "scalar.onnx", (1,))
    _onnx(at / "vast.onnx", (1, 10), many=10**8)
    for name, config in {
        "hf-json": "{",
        "hf-empty": "{}",
        "hf-kind": '{"model_type": "vitt", "architectures": ["VitForImageClassification"]}',
        "hf-code": '{"model_type": "mine", "auto_map": {"AutoConfig": "mine.py--C"}}',
        "hf-pickle": '{"model_type": "vit", "architectures": ["ViTForImageClassification"]}',
    }.items():
        (at / name).mkdir()
        (at / name / "config.json").write_text(config)
        (at / name / "mine.py").write_text("open('burst', 'w')\n")
    vit = {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "num_channels": 1,
        "image_size": 28, "patch_size": 7, "hidden_size": 16, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "num_labels": 10,
    }  # fmt: skip
    for name, config, processor in (
        ("vast", {"hidden_size": 40_000, "intermediate_size": 40_000}, {"size": 28}),
        ("layers", {"num_hidden_layers": 10**9}, {"size": 28}),
        ("cut", {}, "{"),
        ("huge", {}, {"size": {"height": 10**9, "width": 10**9}}),
        ("pads", {}, {"size": 28, "do_pad": True}),
        ("ways", {}, {"size": 28, "resample": "sinc"}),
        ("longest", {}, {"size": {"longest_edge": 28}}),
    ):
        (at / f"hf-{name}").mkdir()
        (at / f"hf-{name}" / "config.json").write_text(json.dumps(vit | config))
        said = processor if isinstance(processor, str) else json.dumps(processor)
        (at / f"hf-{name}" / "preprocessor_config.json").write_text(said)
        save_file({"a": torch.zeros(1)}, at / f"hf-{name}" / "model.safetensors", {"format": "pt"})
    (at / "hf-pickle" / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def _onnx(path: Path, shape: tuple[int, ...], *, many: int = 0) -> None:
    said = helper.make_tensor("said", TensorProto.FLOAT, shape, [0.0] * shape[-1])
    nodes = [helper.make_node("Constant", [], ["y"], value=said)]
    if many:
        sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [many, many])
        nodes = [helper.make_node("Constant", [], ["n"], value=sizes)]
        nodes += [helper.make_node("ConstantOfShape", ["n"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 28, 28])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, list(shape))
    graph = helper.make_graph(nodes, "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(model)


def _weights(at: Path) -> None:
    right = {"linear.weight": torch.zeros(10, 784), "linear.bias": torch.zeros(10)}
    torch.save(right, at / "right.pt")
    (at / "cut.pt").write_bytes((at / "right.pt").read_bytes()[:9000])
    (at / "prose.pt").write_text("This is no checkpoint at all.\n" * 9)
    (at / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state_dict": Bomb()}, at / "zipbomb.pt")
    torch.save({}, at / "empty.pt")
    torch.save([torch.zeros(3)], at / "list.pt")
    itself: dict[str, object] = {}
    itself["state_dict"] = itself
    torch.save(itself, at / "itself.pt")
    weight = right["linear.weight"]
    torch.save({**right, "linear.weight": weight.to_sparse()}, at / "sparse.pt")
    torch.save({**right, "linear.weight": weight.to("meta")}, at / "meta.pt")
    torch.save({"epoch": 3}, at / "numbers.pt")
    torch.save({"conv.weight": torch.zeros(1, 1, 3, 3)}, at / "other.pt")
    torch.save({**right, "linear.weight": torch.zeros(10, 3072)}, at / "shape.pt")
    torch.save({**right, "linear.bias": torch.full((10,), torch.nan)}, at / "nan.pt")


def _images(at: Path) -> None:
    def grey(path: Path, size: tuple[int, int] = (28, 28)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 99).save(path)

    (at / "none").mkdir()
    (at / "prose").mkdir()
    (at / "prose" / "read me.txt").write_text("no images here")
    for k in range(3):
        grey(at / "single" / "test" / "0" / f"{k}.png")
        grey(at / "twelve" / "test" / f"{k + 90}" / "a.png")
        grey(at / "sizes" / "test" / f"{k % 2}" / f"{k}.png", (28 + 4 * k, 28))
        grey(at / "broken" / "test" / f"{k % 2}" / f"{k}.png")
        grey(at / "bomb" / "test" / f"{k % 2}" / f"{k}.png")
        grey(at / "unnamed" / "test" / f"{k}.png")
        grey(at / "unlisted" / "test" / f"{k}.png")
        grey(at / "inbox" / f"{k}.png")
        grey(at / "grey" / "test" / f"{k % 2}" / f"{k}.png")
        grey(at / "dots" / "test" / f"{k % 2}" / f"{k}.png", (1, 1))
    (at / "broken" / "test" / "1" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    (at / "bomb" / "test" / "1" / "1.png").write_bytes(_png(60_000, 60_000))
    listed = at / "unlisted" / "test" / "metadata.csv"
    listed.write_text("file_name,label\nnowhere.png,1\n0.png,2\n")
    (at / "described" / "test").mkdir(parents=True)
    grey(at / "described" / "test" / "0.png")
    (at / "described" / "test" / "metadata.parquet").write_bytes(b"PAR1 and no more")
    (at / "given.py").write_text(GIVEN)
    _tables(at)
    grey(at / "deep" / "test" / "0" / "0.png")
    Image.fromarray(np.zeros((28, 28), np.uint16)).save(at / "deep" / "test" / "0" / "1.png")
    grey(at / "blank" / "test" / "0" / "0.png")
    (at / "blank" / "test" / "0" / "1.png").touch()
    (at / "parquet").mkdir()
    (at / "parquet" / "test-00000-of-00001.parquet").write_bytes(b"PAR1 and no more")
    (at / "spoilt" / "a").mkdir(parents=True)
    (at / "spoilt" / "a" / "1.png").write_bytes(b"no image")
    (at / "torn").mkdir()
    Image.new("RGB", (28, 28)).save(at / "torn" / "1.jpg")
    whole = (at / "torn" / "1.jpg").read_bytes()
    (at / "torn" / "1.jpg").write_bytes(whole[: len(whole) - 20])
    np.savez(at / "images.npz", a=np.zeros(3))
    (at / "listed.csv").write_text("path,label\ninbox/0.png,1\n")


def _tables(at: Path) -> None:
    """Parquet files whose labels are none, and one of a megabyte that says it has 30 million."""
    image = pa.array([{"bytes": b"", "path": None}])
    for name, labels in {
        "fractions": pa.array([0.5, 1.5]),
        "nulls": pa.array([0, None]),
        "lists": pa.array([[0], [1]]),
        "rows": pa.array(np.zeros(3_000_000, np.int64)),
    }.items():
        (at / name).mkdir()
        images = image.take(pa.array(np.zeros(len(labels), np.int32)))
        table = pa.table({"image": images, "label": labels})
        with pq.ParquetWriter(at / name / "test-0.parquet", table.schema) as writer:
            for _ in range(10 if name == "rows" else 1):
                writer.write_table(table)


def _png(width: int, height: int) -> bytes:
    """Return a PNG of two kilobytes that says it holds so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _settings(at: Path) -> None:
    laughs = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
        f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10)
    )
    waived = "checks: {ACC-001: {}}\nwaivers: [{code: ACC-001, "
    for name, text in {
        "empty": "",
        "list": "- 1\n- 2\n",
        "tabs": "checks:\n\tACC-001: {}\n",
        "laughs": laughs,
        "nested": "[" * 20_000,
        "python": "checks: !!python/object/apply:os.mkdir [burst]\n",
        "key": "chekcs: {ACC-001: {}}\n",
        "code": "checks: {ACC-01: {}}\n",
        "checkless": "level: 0.95\nchecks: {}\n",
        "level": "level: 95\nchecks: {ACC-001: {}}\n",
        "text": "checks: {ACC-001: {threshold: high}}\n",
        "above": "checks: {ACC-001: {threshold: 90}}\n",
        "twice": "checks: {ACC-001: {threshold: 0.9}, ACC-001: {threshold: 0.1}}\n",
        "accepted": "checks: {ACC-001: {undecided: perhaps}}\n",
        "reason": waived + "reason: '', until: 2099-01-01}]\n",
        "day": waived + "reason: later, until: 2027-02-30}]\n",
        "endless": waived + "reason: later}]\n",
        "steps": "attacks: [{name: pgd, stepz: 3}]\n",
    }.items():
        (at / f"{name}.yaml").write_text(text)
    (at / "binary.yaml").write_bytes(bytes(range(256)))
    (at / "vast.yaml").write_text("a: b\n" * 4_000_000)
    (at / "old.json").write_text('{"kind": "something else"}')
    (at / "cut.json").write_text('{"checks": [')
    (at / "file").touch()


def _stores(at: Path) -> None:
    """A store of which nothing can be read, and archives whose files would lie outside of it."""
    run, trial = at / "store/studies/skip-0123456789ab", at / "store/trials/456789abcdef"
    run.mkdir(parents=True)
    trial.mkdir(parents=True)
    (run / "run.json").write_text('{"schema": 99, "name": "x"}')
    (trial / "record.json").write_text('{"cut": ')
    (trial / "trial.json").write_text('{"schema": 1, "trial": {"na')
    for name, member in (("up", "../evil"), ("absolute", str(at / "evil"))):
        with tarfile.open(at / f"{name}.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo(member))
    manifest = b'{"schema": 1, "parcels": {}}'
    for name, member, kind in (
        ("beyond", "../evil", tarfile.REGTYPE),
        ("rooted", str(at / "evil"), tarfile.REGTYPE),
        ("foundling", "evil", tarfile.REGTYPE),
        ("manifests", "manifest.json", tarfile.REGTYPE),
        ("symlink", "link", tarfile.SYMTYPE),
        ("hardlink", "link", tarfile.LNKTYPE),
        ("device", "device", tarfile.CHRTYPE),
    ):
        with tarfile.open(at / f"{name}.tar", "w") as archive:
            head, more = tarfile.TarInfo("manifest.json"), tarfile.TarInfo(member)
            head.size, more.type, more.linkname = len(manifest), kind, "/etc/passwd"
            archive.addfile(head, io.BytesIO(manifest))
            archive.addfile(more)


def _texts(at: Path) -> None:
    (at / "columns.csv").write_text("a,b\n1,2\n")
    (at / "empty.csv").touch()
    (at / "header.csv").write_text("text,label\n")
    (at / "lines.jsonl").write_text('{"text": "a", "label": 0}\n{"text": \n')
    (at / "latin.csv").write_bytes("text,label\nsch\xf6n,1\n".encode("latin-1"))
    (at / "zip.csv").write_bytes(b"PK\x03\x04" + bytes(500))
    with zipfile.ZipFile(at / "weights.zip", "w") as file:
        file.writestr("a", "b")
