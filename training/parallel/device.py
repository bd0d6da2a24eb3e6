"""The device that a process trains or evaluates on, by its name."""

from __future__ import annotations

import torch

from hficma.errors import InputError

from .distributed import local_rank, processes


def pick_device(name: str) -> torch.device:
    """Return the device of a name; of several processes, each takes the GPU of its own number.

    Args:
        name: `cpu`, `cuda`, `cuda:N`; `auto` takes a GPU where there is one.

    Raises:
        InputError: there is no such device here, or none for every process.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name}: is no device; give cpu, cuda or cuda:N") from error
    if device.type != "cuda":
        return device
    if processes() > 1:
        if ":" in name:
            raise InputError(f"{name}: {processes()} processes cannot share one GPU; give cuda")
        device = torch.device("cuda", local_rank())
    if (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{device}: there is no such GPU here; give cpu")
    return device
