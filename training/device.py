"""The device that training and evaluation run on, by its name."""

from __future__ import annotations

import torch

from hficma.errors import InputError


def pick_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: `cpu`, `cuda`, `cuda:N`; `auto` takes a GPU where there is one.

    Raises:
        InputError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"{name}: is no device; give cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"{name}: there is no such GPU here; give cpu")
    return device
