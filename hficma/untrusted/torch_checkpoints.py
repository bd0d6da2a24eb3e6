"""Checkpoints of `torch.save`, in its old and its zip form, read by `torch.load` without danger.

`weights_only` runs no code, but what it may name includes tensor types that take memory without
values; here less may be named: what the checkpoints of the two published systems do. Numpy's
numbers in them (the best score so far) and options are recorded and left there: only weights count.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..artifacts.manifest import disk_reason
from ..errors import InputError
from ..limits import MEGABYTE, read_regular_file, reason
from ..types import Array
from .pickle_globals import STORAGES
from .pickle_scan import refusal, scan_pickle
from .pickles import loads
from .worker import Worker

if TYPE_CHECKING:
    import torch

CHECKPOINT_BYTES = 4_000 * MEGABYTE
"""HF-ICMA's take 700 MB with the optimizer's state."""
SECONDS = 300.0
"""Reading one may take."""

_MEMORY = 3 * CHECKPOINT_BYTES  # the file, its tensors, and a copy of the weights

_TENSORS = frozenset(
    {
        "collections.OrderedDict", "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
        "torch.nn.parameter.Parameter", "torch.Size", "torch.device", "_codecs.encode",
        "builtins.set", "__builtin__.set", "torch.BFloat16Storage",
        *(f"torch.{storage}" for storage in STORAGES),
    }
)  # fmt: skip
"""What torch itself makes: values are never behind the file's own bytes."""


class _Unread:
    """Stands for an object of a checkpoint that is no weight; it takes any call and state."""

    def __init__(self, *_arguments: Any) -> None: ...

    def __setstate__(self, _state: Any) -> None: ...


_UNREAD = (
    "numpy.dtype", "numpy.ndarray", "argparse.Namespace",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core")
      for name in ("scalar", "_reconstruct")),
)  # fmt: skip


def load_weights(path: Path) -> dict[str, Array]:
    """Read the tensors of a checkpoint's `state_dict` or `network` in a process of its own.

    Args:
        path: such as HF-ICMA's `model_e*.pth.tar` or AdaMine's `ckpt_*_model.pth.tar`.

    Returns:
        arrays by name, float32 where they were bfloat16.

    Raises:
        InputError: the file is damaged, no such file, asks for what no checkpoint needs, or takes
            more memory or seconds than any should.
    """
    from safetensors.numpy import load_file

    with tempfile.TemporaryDirectory(prefix="hficma-") as folder, Worker(memory=_MEMORY) as worker:
        written = Path(folder) / "weights.safetensors"
        worker.call(_write_weights, path, written, name=str(path), seconds=SECONDS)
        return dict(load_file(written))


def _write_weights(path: Path, out: Path) -> None:
    """Run in the worker: what goes back is a file of plain numbers."""
    import torch
    from safetensors.torch import save_file

    value = load_checkpoint(path)
    for key in ("state_dict", "network"):
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping):
        raise InputError(f"{path}: holds no weights by name")
    weights = {
        str(name): (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().clone()
        for name, tensor in value.items()
        if isinstance(tensor, torch.Tensor)
    }
    try:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, out)
    except Exception as error:
        if (reason := disk_reason(error)) is None:
            raise
        raise InputError(
            f"{path}: its weights cannot be written to {tempfile.gettempdir()} meanwhile "
            f"({reason}); make room there, or name another folder with TMPDIR"
        ) from error


def load_checkpoint(path: Path) -> Any:
    """Read what `torch.save` wrote; tensors lie on the CPU.

    Use `load_weights` for files that are not trusted: this runs in the process that calls it.

    Raises:
        InputError: the file is damaged, no such file, or asks for what no checkpoint needs.
    """
    import torch

    content = read_regular_file(path, limit=CHECKPOINT_BYTES, what="a checkpoint")
    if not content:
        raise InputError(f"{path}: the file is empty")
    named: int | None = None
    if content.startswith(b"PK\x03\x04"):
        _scan_zip(content, path)
    else:
        named = _scan_old(content, path)
    unread = [(_Unread, name) for name in _UNREAD]
    try:
        with torch.serialization.safe_globals(unread):  # type: ignore[arg-type]
            value = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its C++ does
        raise InputError(
            f"{path}: is no readable file of torch.save ({reason(error)[:160]})"
        ) from error
    _check_storages(value, named, len(content), path)
    return value


def _scan_old(content: bytes, path: Path) -> int:
    """Follow magic, version, system, the object and the keys of its storages; return how many."""
    end = 0
    for part in ("magic", "version", "system", "object"):
        end = _scan(content, end, path, storages=part == "object")
    keys = loads(content[end:], name=str(path))
    if not isinstance(keys, list):
        raise InputError(f"{path}: is no readable file of torch.save (it names no storages)")
    return len(set(map(str, keys)))


def _scan_zip(content: bytes, path: Path) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # torch.save stores without compression: anything larger than the file is a trap.
            if sum(info.file_size for info in archive.infolist()) > len(content):
                raise InputError(f"{path}: its members are larger than the file; refused")
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise InputError(f"{path}: is no file of torch.save; it has no data.pkl")
            _scan(archive.read(pickles[0]), 0, path, storages=True)
    except InputError:
        raise
    except Exception as error:  # zipfile's on damage: IndexError, struct.error, zlib.error, ...
        raise InputError(f"{path}: is no readable file of torch.save ({error})") from error


def _scan(content: bytes, start: int, path: Path, *, storages: bool) -> int:
    def check(name: str) -> None:
        if name not in _TENSORS and name not in _UNREAD:
            raise refusal(str(path), name)

    return scan_pickle(content, start, name=str(path), storages=storages, on_global=check)


def _check_storages(value: Any, named: int | None, size: int, path: Path) -> None:
    """Refuse tensors without values in the file.

    In the old form the object asks for storages and a list behind it says which have values; the
    others would hold whatever the memory held before.
    """
    import torch

    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in _tensors(value, torch.Tensor)
        if tensor.untyped_storage().nbytes()
    }
    if sum(storages.values()) > size or (named is not None and len(storages) > named):
        raise InputError(f"{path}: its tensors are larger than the file; refused")


def _tensors(value: Any, kind: type[torch.Tensor]) -> list[torch.Tensor]:
    tensors: list[torch.Tensor] = []
    waiting, seen = [value], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, kind):
            tensors.append(item)
        elif isinstance(item, (Mapping, list, tuple)) and id(item) not in seen:
            seen.add(id(item))
            waiting.extend(item.values() if isinstance(item, Mapping) else item)
    return tensors
