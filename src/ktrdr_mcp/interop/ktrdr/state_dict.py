"""KTRDR's model.pt: a plain state dict in torch's format. The only place that reads or writes one.

Reading takes a file of bounded size into memory once, looks at the archive and at every
instruction of its pickle, and only then lets torch build tensors, with weights_only.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ktrdr_mcp.errors import ModelCorrupted
from ktrdr_mcp.features.inputs import Scaler
from ktrdr_mcp.interop.ktrdr.documents import MODEL, state_key
from ktrdr_mcp.nn.perceptron import Mlp
from ktrdr_mcp.training.bundle import corrupted_file, regular_file

MAX_MODEL_BYTES: Final = 1024**3
LARGEST_NUMBER_BYTES: Final = 8  # float64
ARCHIVE_BYTES: Final = 1024 * 1024  # of names, alignment and the pickle itself
MAX_PICKLE_BYTES: Final = 256 * 1024
PROBE_ROWS: Final = 1_024

GLOBALS: Final = frozenset(
    {
        "collections OrderedDict",
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch DoubleStorage",
    }
)
INSTRUCTIONS: Final = frozenset(
    {
        *("PROTO", "STOP", "MARK", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "NONE"),
        *("NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
        *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
        *("EMPTY_DICT", "SETITEM", "SETITEMS"),
    }
)


def fold_scaler(weights: Mapping[str, Tensor], scaler: Scaler) -> dict[str, Tensor]:
    """The same network on features that are not scaled.

    W' = W / scale and b' = b - W (shift / scale), in float64, rounded once.

    Args:
        weights: "layers.0.weight" (outputs, inputs), "layers.0.bias" (outputs,), and so on.
        scaler: of the inputs.
    """
    scale, shift = torch.from_numpy(scaler.scale), torch.from_numpy(scaler.shift)
    first = weights["layers.0.weight"].double() / scale
    bias = weights["layers.0.bias"].double() - first @ shift
    return {**weights, "layers.0.weight": first.float(), "layers.0.bias": bias.float()}


def largest_difference(shape: Mlp, weights: Mapping[str, Tensor], scaler: Scaler) -> float:
    """How far folding moves a probability, on rows like those that the scaler was fitted on."""
    generator = np.random.default_rng(0)
    spread = generator.standard_normal((PROBE_ROWS, shape.inputs))
    if scaler.kind == "minmax":
        spread = generator.random(spread.shape)
    # memberships, which is what KTRDR's features are, lie in [0, 1]
    features = np.clip(scaler.shift + scaler.scale * spread, 0, 1)
    ours = probabilities(shape, weights, scaler.transform(features))
    theirs = probabilities(shape, fold_scaler(weights, scaler), features)
    return float((ours - theirs).abs().max())


def probabilities(shape: Mlp, weights: Mapping[str, Tensor], features: np.ndarray) -> Tensor:
    """Class probabilities, computed in float32 as both programs do."""
    return torch.softmax(shape.forward(weights, torch.from_numpy(features).float()), dim=1)


def encode(shape: Mlp, weights: Mapping[str, Tensor], scaler: Scaler) -> bytes:
    """The bytes of model.pt.

    Args:
        shape: the network's shape.
        weights: the network's tensors, for scaled features.
        scaler: which KTRDR's copy has folded into its first layer.
    """
    plain = fold_scaler(weights, scaler)
    state = OrderedDict(
        (state_key(layer, kind), plain[f"layers.{layer}.{kind}"].cpu().contiguous().clone())
        for layer in range(len(shape.layers))
        for kind in ("weight", "bias")
    )
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def read(directory: Path, shape: Mlp) -> dict[str, Tensor]:
    """The tensors of a model.pt, under this program's names.

    Args:
        directory: the model's folder.
        shape: what its configuration promises.
    Returns:
        "layers.0.weight" and so on, float32.
    Raises:
        ModelCorrupted: it is not a plain file, larger than such a network, or anything but the
            tensors that are expected.
    """
    largest = shape.parameters_count * LARGEST_NUMBER_BYTES + ARCHIVE_BYTES
    path = regular_file(directory, MODEL, min(largest, MAX_MODEL_BYTES))
    with path.open("rb") as file:
        data = file.read(min(largest, MAX_MODEL_BYTES) + 1)
    record_bytes = check_archive(data)
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # whatever torch makes of bytes that somebody else wrote
        raise corrupted_file(MODEL, "is not a state dict that torch can read") from None
    return rename_keys(state, shape, record_bytes)


def check_archive(data: bytes) -> list[int]:
    """Refuses an archive that could unpack to more than its size, or do more than build tensors.

    Returns:
        the bytes of each record of numbers, sorted.
    Raises:
        ModelCorrupted: it is not what torch writes for a state dict.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if any(each.compress_type != zipfile.ZIP_STORED for each in entries):
                raise corrupted_file(MODEL, "is compressed, which torch never does")
            if sum(each.file_size for each in entries) > len(data):
                raise corrupted_file(MODEL, "claims to hold more than its own size")
            pickles = [each for each in entries if each.filename.endswith(".pkl")]
            if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
                raise corrupted_file(MODEL, "does not hold one small description of its tensors")
            check_instructions(archive.read(pickles[0]))
            return sorted(each.file_size for each in entries if "/data/" in each.filename)
    except ModelCorrupted:
        raise
    except Exception:  # a damaged archive fails in many ways
        raise corrupted_file(MODEL, "is not a whole archive in torch's format") from None


def check_instructions(program: bytes) -> None:
    """Refuses a pickle with any instruction or name that a state dict does not need."""
    for instruction, argument, _ in pickletools.genops(program):
        if instruction.name not in INSTRUCTIONS:
            raise corrupted_file(MODEL, f"has the pickle instruction {instruction.name}")
        if instruction.name == "GLOBAL" and argument not in GLOBALS:
            raise corrupted_file(MODEL, "names something that is not a tensor")


def rename_keys(state: object, shape: Mlp, record_bytes: list[int]) -> dict[str, Tensor]:
    """A state dict under this program's names, if it is the network's, whole and finite.

    Args:
        state: what torch made of the file.
        shape: what its configuration promises.
        record_bytes: of each record of numbers, sorted; a tensor must not reach beyond its own.
    """
    expected = {
        state_key(layer, kind): (layer, kind, size)
        for layer, (inputs, outputs) in enumerate(shape.layers)
        for kind, size in (("weight", (outputs, inputs)), ("bias", (outputs,)))
    }
    if not isinstance(state, dict) or set(state) != set(expected):
        raise corrupted_file(MODEL, "does not hold the layers that config.json describes")
    if not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise corrupted_file(MODEL, "holds something that is not a tensor")
    if sorted(tensor.untyped_storage().nbytes() for tensor in state.values()) != record_bytes:
        raise corrupted_file(MODEL, "claims to hold more numbers than it does")
    weights = {}
    for key, (layer, kind, size) in expected.items():
        tensor = state[key]
        if tuple(tensor.shape) != size:
            raise corrupted_file(MODEL, f"has {key} in another shape than config.json describes")
        if tensor.dtype not in (torch.float32, torch.float64) or not tensor.is_contiguous():
            raise corrupted_file(MODEL, f"has {key} in another form than KTRDR writes")
        if not bool(torch.isfinite(tensor).all()):
            raise corrupted_file(MODEL, f"has numbers in {key} that are not finite")
        weights[f"layers.{layer}.{kind}"] = tensor.float().clone()
    return weights
