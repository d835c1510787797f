"""The table: what is wrong, and the words that the one line about it must have.

A row is the end of a command, "|", and words between ";". In both, @ is the folder of `files.made`;
$ is the address of `service.Service`, and NET a network that is as it should be.
"""

from __future__ import annotations

MODELS = """
@none.safetensors | there is no file; did you mean
@nothing | is empty; whole file
@empty.safetensors | not a whole safetensors file
@prose.safetensors | not a whole safetensors file
@cut.safetensors | not a whole safetensors file
@vast.safetensors | not a whole safetensors file
@foreign.safetensors | not made by assay; --weights
@said.safetensors | made by another version
@shape.safetensors | does not fit its own settings
@lacks.safetensors | does not fit its own settings
@nan.safetensors | NaN or infinity; check its weights
@none | is a folder; name a file in it
@hf-json | config.json names no architecture; save_pretrained
@hf-empty | config.json names no architecture; save_pretrained
@hf-kind | has no safetensors; save_pretrained
@hf-code | has no safetensors; save_pretrained
@hf-pickle | pytorch_model.bin; may run code
@hf-vast | makes a network of; its weights are 1
@hf-layers | asks for 1,000,000,000 layers; 1 tensors
@hf-cut | preprocessor_config.json is empty, or no JSON object
@hf-huge | images of 1000000000
@hf-pads | it pads images
@hf-ways | interpolation 'sinc'; bicubic
@hf-longest | a size by longest_edge; shortest_edge
@vast.onnx | fails on random images; ConstantOfShape
@loop | there is no file
@empty.onnx | is no ONNX model, or not a whole one (0 bytes)
@prose.onnx | is no ONNX model, or not a whole one
@scalar.onnx | no output of numbers (n, K)
@empty.pt2 | is empty
@program.pt | TorchScript; --trust-program
@right.pt | has weights, but not the network; file.py:factory
@weights.zip | has weights, but not the network
@none.py:Net | there is no file; did you mean
@nets.py | name the function
@nets.py: | name a function; Net
@nets.py:Nett | 'Nett'; did you mean 'Net'
@nets.py:value | is int, not a function
@syntax.py:net | cannot be run; SyntaxError; line 1
@imports.py:net | cannot be run; a_module_that_nobody_has
@leaves.py:net | cannot be run; SystemExit
@nets.py:nothing | gave NoneType, not a torch.nn.Module
@nets.py:made_class | gave the class Net; return Net()
@nets.py:later | is async
@nets.py:Half --weights @right.pt | (20,) for 20 images; for two classes 0 and z
@nets.py:needs | 'width'; --model-args
@nets.py:raises | RuntimeError: the licence has run out
@nets.py:leaves | SystemExit
@nets.py:Silent --weights @right.pt | NaN or infinity
@nets.py:One --weights @right.pt | at least 2 classes; one logit per class
@nets.py:Deep --weights @right.pt | (20, 10, 1, 1); needs logits
@nets.py:Pair --weights @right.pt | tuple; tensor of logits
@nets.py:Words --weights @right.pt | list; tensor of logits
@nets.py:Short --weights @right.pt | (19, 10) for 20 images
no.such.package:net | not installed
torch.nn:Linearr | did you mean 'Linear'; Of
@nets.py:Net --model-args heigth=3 | heigth; --model-args
@nets.py:Net --model-args 3 | name=value
@nets.py:Net --model-args width=many | TypeError
@nets.py:Net --weights @right.pt --mean 0.5 0.5 0.5 --std 1 1 1 | have 3 values; 1 channels
@nets.py:Net --mean 0.5 --std 0 | std must be positive
@nets.py:Net --mean nan --std 1 | mean; finite number
@nets.py:Net --mean half --std 1 | mean; 'half'
"""
WEIGHTS = """
@none.pt | there is no file; did you mean
@none | is a folder
@nothing | is corrupt
@cut.pt | is corrupt
@prose.pt | is corrupt
@weights.zip | is corrupt
@bomb.pt | would execute code; state dict
@zipbomb.pt | would execute code; state dict
@empty.pt | lacks linear.weight
@list.pt | no state dict but a list
@numbers.pt | no state dict but the keys epoch
@other.pt | lacks linear.weight; has conv.weight
@shape.pt | (10, 3072); (10, 784)
@nan.pt | NaN or infinity
@itself.pt | no state dict but the keys state_dict
@sparse.pt | linear.weight holds torch.sparse_coo; dense
@meta.pt | linear.weight holds no numbers; meta
@cut.safetensors | not a whole safetensors file
/dev/zero | no file that can be read
"""
DATA = """
digts | 'digts'; did you mean 'digits'
@none | holds no images; one folder per class
@prose | holds no images, but 1 .txt
@nowhere | no such folder
@file | is a file; folder
@images.npz | is a file; folder; a function that reads it; file.py:name
@listed.csv | is a file; metadata.csv (file_name, label); in the model's place
@single | 10 classes; has 1
@twelve | 10 classes; has 3
@sizes | differ in size; --size
@broken | 1.png cannot be read as an image
@bomb | 1.png cannot be read as an image; 3600000000 pixels
@unnamed | no labels; one folder per class
@unlisted | nowhere.png; metadata.csv
@parquet | cannot be read; parquet
@fractions | column 'label'; double; whole numbers or names
@lists | column 'label'; list
@nulls | row 1; has no label
@rows | 30,000,000 rows; at most
@deep | 1.png; mode I;16; 8 bits
@blank | 1.png cannot be read as an image; the file is empty
@loop | no such folder
@spoilt | no split 'test'
@described | metadata.parquet cannot be read
@given.py:end | 'end'; did you mean 'ends'
@none.py:batches | there is no file
@given.py:ends | gave no batches
@given.py:three | batch 1; a tuple of 3; (inputs, labels)
@given.py:normal | batch 1; float32 from; --mean and --std
@given.py:nan | batch 1; NaN
@given.py:flat | batch 1; × 784; (N, C, H, W)
@given.py:hot | one-hot; argmax(1)
@given.py:high | 15 (0, 1; the labels do not fit
@given.py:colours | 1 channel; have 3
@given.py:words | has texts; takes images
@given.py:raises | batch 2; OSError: the disk is gone
@given.py:ends --split tst | 'tst'; did you mean 'test'
shapes | 1 channel; have 3
digits --split tst | 'tst'; did you mean 'test'
digits --reference-split tst | 'tst'; --reference-split
digits --reference-split test | the part that is audited
digits --classes cat dog | 2 classes; has 10
digits --classes 0 0 1 2 3 4 5 6 7 8 | --classes: '0' is there twice; name of its own
@given.py:twice | classes of; 'a' is there twice; class 0 and class 2
digits --size 0 | --size; at least 1
digits --size 99999999 | --size 99999999
"""
NUMBERS = """
--images 0 | --images; at least 1
--images 4 | at least 20 images, got 4
--images many | images; 'many'
--images 1e99 | images; '1e99'
--eps nan | eps; finite
--eps -1 | eps; greater than 0
--eps 8 | eps = 8 is outside [0, 1]; 8/255
--eps 8/0 | '8/0'; fraction
--thresholds.robustness 50 | thresholds.robustness; '50'
--thresholds.accuracy nan | thresholds.accuracy; finite
--batch-size 99999999999999999999 | --batch-size; at most
--batch-size 0 | --batch-size; at least 1
--threads 99999999 | --threads; at most
--seed -1 | seed; '-1'
--seed 1.5 | seed; '1.5'
--attacked 0 | attacked; '0'
--attacks pdg | 'pdg'; did you mean 'pgd'
--sections robstness | did you mean 'robustness'
--detectors knm | did you mean 'knn'
--explainers grad-cam | --explainers
--norm l3 | norm; 'l3'
--device gpu | device; 'gpu'
--weights @right.pt | has its own weights
"""
POLICY = """
@none.yaml | No such file
@none | Is a directory
@empty.yaml | checks is required
@list.yaml | a mapping of settings, not list
@tabs.yaml | not valid YAML; line 2
@laughs.yaml | more than 100,000 values
@nested.yaml | nested too deep
@python.yaml | not valid YAML; python/object
@key.yaml | 'chekcs'; 'checks'
@code.yaml | 'ACC-01'; did you mean 'ACC-001'
@checkless.yaml | checks; at least 1 item
@level.yaml | level; less than 1; 95
@text.yaml | checks.ACC-001.threshold; 'high'
@above.yaml | ACC-001; fraction; 0.9
@twice.yaml | 'ACC-001' stands there twice
@accepted.yaml | 'perhaps'
@reason.yaml | reason; at least 1 character
@day.yaml | day is out of range
@endless.yaml | until is required
@binary.yaml | utf-8
@vast.yaml | longer than
/dev/zero | it is no file
"""
PATHS = """
--config @steps.yaml | 'attacks.0.stepz'; did you mean 'steps'
--config @laughs.yaml | more than 100,000 values
--config @none | Is a directory
--out @file | below a file
--out @file/report | below a file
--out @loop | is a link that leads nowhere
--store @loop | a link; nowhere
--out= | --out is empty
--store @file | the store; is a file
--against @none.json | there is no audit
--against @old.json | no report of an audit
--against @cut.json | no report of an audit
--against @prose | there is no audit
--formats html5 | html5; markdown
--checks ACC-01 | did you mean 'ACC-001'
--fail-on sometimes | sometimes; undecided
"""
QUERIED = """
$/fails --access labels | 500; out of order
$/away --access labels | 404; not here
$/closed --access labels | 401; who are you
$/page --access labels | cannot be read; <html>
$/cut --access labels | cannot be read
$/other --access labels | no JSON object with 'labels'
$/words --access labels | not an array of labels
$/few --access labels | (0,) for 20 images
$/deep --access labels | cannot be read
$/nothing --access labels | 204; an empty body
$/empty --access labels | cannot be read; an empty body
$/floats --access labels | the label 0.5
$/yes --access labels | not an array of labels
$/busy --access labels | 503; Retry-After
$/flood --access labels | more than 64 MiB
$/round --access labels | 307
$/nan --access scores | (1, 2) for 20 images
$/page | --access labels, scores or logits
$/page --access labels --header nocolon | --header; Name: value
$/page --access labels --timeout 0 | positive number of seconds
http://127.0.0.1:9/x --access labels | cannot be queried; Connect
ftp://127.0.0.1/x --access labels | URL
file:///etc/passwd --access labels | URL
https:// --access labels | http://host:port/path
@dozen.onnx | (1, 12) for 1 images; 10 classes
@box.py:words --access labels | not an array of labels
@box.py:beyond --access labels | label 99; 0 to 9
@box.py:short --access labels | (19,) for 20 images
@box.py:above --access scores | sum to 5
@box.py:raises --access labels | KeyError: 'gone'; line 20
"""
DETECTORS = f"""
@none --reference digits | holds no images
@nowhere --reference digits | is not there
@spoilt --reference digits | 1.png cannot be read as an image
@inbox | --reference DATA, or --load
@inbox --reference digts | did you mean 'digits'
@inbox --reference digits --detector knm | did you mean 'knn'
@inbox --reference digits --tpr 95 | tpr; less than 1
@inbox --reference digits --fitted-on 0 | fitted_on
@inbox --load @none.safetensors | there is no detector
@inbox --load @cut.safetensors | not a readable safetensors file
@inbox --load @foreign.safetensors | not a detector
@inbox --load NET | not a detector
@inbox --load @none | is a folder
@inbox --load {5000 * "x"} | is no path; too long
@inbox --load @none\0 | NUL
@torn --reference digits | 1.jpg cannot be read as an image; truncated
@inbox/0.png --reference digits | is a file; the folder it is in
@inbox --reference digits --out {5000 * "x"} | cannot write; too long
@inbox --reference digits --save @file/knn.safetensors | below a file
@inbox --reference digits --out @none | Is a directory
"""
TEXTS = """
@columns.csv | no column that is called text; rename it to text; load_texts(text_column=
@empty.csv | is empty
@header.csv | no rows below its header
@lines.jsonl | line 2; not JSON
@zip.csv | binary
@latin.csv | not UTF-8; byte 14
@nowhere.csv | no file or folder of texts
"""
MISFITS = """
@nets.py:Colour --data @grey | takes 3 channels; all images are grey; copies in colour
@nets.py:Colour --data @grey --mean .5 .5 .5 --std 1 1 1 | have 3 values; copies in colour
@nets.py:Colour --data @dots --model-args channels=1 | images of 1×1 pixels are too small; --size
@nets.py:Net --data @dots | (2x1 and 784x10); images of 1×1 pixels; --size
NET --data shapes | takes images of 1 channel; have 3; copies in grey
"""
ATTACKS = """
--out out | name the attack; pgd
--out out --attack pdg | did you mean 'pgd'
--attack pgd | --out DIR
--out out --attack pgd --steps 0 | steps; '0'
--out out --attack pgd --steps many | steps; 'many'
--out out --attack pgd --targets eleven | 'eleven'; least-likely
--out out --attack square --query-budget 0 | --query-budget; at least 1
--out out --attack pgd --time-limit nan | seconds; nan
"""

STORES = f"""
list --store @file | the store; is a file
list --store @loop | the store; a link that leads nowhere
show {5000 * "x"} --store @store | is no path; too long
show skip-0123456789ab --store @store | run.json was written by a newer assay; schema 99; upgrade
show skip --store @store | run.json was written by a newer assay
show 456789abcdef --store @store | no sense can be made of its documents; damaged; again
show other --store @store | no run or trial 'other'; 2 there cannot be read; `assay list`
export skip --store @store out.tar | run.json was written by a newer assay
track skip --to tensorboard --store @store | run.json was written by a newer assay
compare a b --store @store | no run or trial 'a'
why a b --store @loop | a link that leads nowhere
export a out.tar --store @store | no run or trial 'a'
import @up.tar --store out | did not make it
import @absolute.tar --store out | did not make it
import @beyond.tar --store out | '../evil' is not in its manifest, or twice; refused
import @rooted.tar --store out | is not in its manifest, or twice; refused
import @foundling.tar --store out | 'evil' is not in its manifest, or twice; refused
import @manifests.tar --store out | 'manifest.json' is not in its manifest, or twice; refused
import @symlink.tar --store out | 'link' is no plain file; refused
import @hardlink.tar --store out | 'link' is no plain file; refused
import @device.tar --store out | 'device' is no plain file; refused
import @prose.onnx --store out | no whole archive
import @nowhere.tar --store out | there is no archive
gc @file | is a file; folder
gc @loop | a link that leads nowhere
gc @nowhere | there is no store
sync @nowhere out | there is no store
sync @store @loop | a link that leads nowhere
sync @store @file | is a file; folder
sweep nope --store @store | unknown study 'nope'
"""


def rows(command: str, table: str) -> list[tuple[str, list[str]]]:
    """Return (command, words) of each row; "…" in `command` is where the row's own end goes."""
    parts = (line.rpartition(" | ") for line in table.strip().splitlines())
    return [(command.replace("…", end.strip()), said.split("; ")) for end, _, said in parts]


TABLE = [
    *rows("audit … --data digits --images 20 --quiet", MODELS + QUERIED),
    *rows("audit @nets.py:Net --data digits --images 20 --quiet --weights …", WEIGHTS),
    *rows("audit NET --images 20 --quiet --data …", DATA),
    *rows("audit NET --data digits --quiet …", NUMBERS),
    *rows("audit NET --data digits --images 20 --quiet --policy …", POLICY),
    *rows("audit NET --data digits --images 20 --quiet …", PATHS),
    *rows("detect NET --images …", DETECTORS),
    *rows("train … --model minilm --out out", TEXTS),
    *rows("…", STORES),
    *rows("explain … --images 2 --classes 0 1 2 3 4 5 6 7 8 9 --quiet", MISFITS),
    *rows("attack NET --data digits --images 20 --quiet …", ATTACKS),
]
