"""Loads a file of weights into a network, and says in one line where it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ....errors import InputError
from ....untrusted.torch_checkpoints import load_weights


def load_weights_file(
    network: nn.Module,
    path: Path,
    name: str,
    *,
    optional: Sequence[str] = (),
    unused: Sequence[str] = (),
    rename: Callable[[str], str] = str,
) -> None:
    """Load a weights file into a network.

    Args:
        network: as the file's weights are named.
        path: a `.safetensors` file, or one of `torch.save`.
        name: of the image encoder, for messages.
        optional: parts of names of weights that the file may lack: a head, which is not used.
        unused: beginnings of names that the file may have, and the network not.
        rename: returns what a weight of the file is called in the network.

    Raises:
        InputError: no such file, no weights, or those of another network.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; trunk.weights takes a weights file")
    try:
        state = {rename(weight): tensor for weight, tensor in _read(path).items()}
        missing, unexpected = network.load_state_dict(state, strict=False)
    except InputError:
        raise
    except Exception as error:  # every reader has its own kinds; all mean the same to a user
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: are no weights of {name} ({reason})") from error
    optional = (*optional, "num_batches_tracked")
    lacking = [weight for weight in missing if not any(part in weight for part in optional)]
    unexpected = [weight for weight in unexpected if not weight.startswith(tuple(unused))]
    if lacking or unexpected:
        weight = (lacking + unexpected)[0]
        problem = "lacks" if lacking else "has an unexpected"
        raise InputError(f"{path}: are no weights of {name} ({problem} {weight})")


def _read(path: Path) -> dict[str, Tensor]:
    """Return a file's tensors by name."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state: dict[str, Tensor] = load_file(path)
        return state
    return {name: torch.from_numpy(array) for name, array in load_weights(path).items()}
