"""Reads what image and text encoders have in common: a model's folder, and the library behind it.

The folder is as Hugging Face's libraries write it. It comes from strangers: its JSON files have
limits, and no name in one of them leads out of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import InputError, MissingDependencyError
from ...limits import MEGABYTE, parse_json, read_regular_file, reason

CONFIG = "config.json"
"""Says which network a folder holds, of what sizes."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
"""Its weights: one file, or the list of several."""
NOT_LAYERS = (
    "architectures", "auto_map", "dtype", "id2label", "label2id", "problem_type",
    "quantization_config", "torch_dtype", "transformers_version",
)  # fmt: skip
"""Of a configuration: what says nothing of layers, or names code that is not ours to run."""
ATTENTION = "eager"
"""Plain products and a softmax: every network has it, and every runtime its operators."""
JSON_BYTES = MEGABYTE
"""Bytes of a JSON file of settings, those of models with thousands of named classes included."""


def read_model_json(folder: Path, name: str, kind: type = dict, *, limit: int = JSON_BYTES) -> Any:
    """Return what a JSON file of a model's folder holds.

    Args:
        folder: of the model.
        name: of the file, perhaps in a folder within; another file of the model may have named it.
        kind: `dict` for an object, `list` for a list.
        limit: bytes, at most.

    Raises:
        InputError: it is missing, too long, no JSON of that kind, or lies outside the folder.
    """
    path = folder / name
    place = PurePosixPath(name.replace("\\", "/"))
    # By the name alone: the files of a cached download are links to files elsewhere.
    if place.is_absolute() or ".." in place.parts or Path(name).drive:
        raise InputError(f"{path}: lies outside the model's folder")
    content = read_regular_file(path, limit=limit, what=f"a {path.name}")
    record = parse_json(content, name=str(path), limit=limit)
    if not isinstance(record, kind):
        shape = "object" if kind is dict else "list"
        raise InputError(f"{path}: is no JSON {shape}; take the file published with the model")
    return record


def import_transformers(reader: str) -> Any:
    """Import the library `transformers`, quietly.

    Args:
        reader: what needs it, for the message where it is missing.

    Raises:
        MissingDependencyError: it is not installed.
    """
    from .image.torchvision_models import import_torchvision

    # It imports torchvision where that is installed, which must have been mended before.
    with contextlib.suppress(MissingDependencyError):
        import_torchvision()
    try:
        import transformers
    except ImportError as error:
        raise MissingDependencyError("transformers", "encoders", reader) from error
    library: Any = transformers
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def build_network(kind: Any, config: Any, folder: Path | None, **arguments: Any) -> Any:
    """Build a network of `transformers`, in float32.

    Args:
        kind: its class.
        config: of its layers; changed in place.
        folder: whose weights it begins with; None for random ones.
        arguments: of its constructor.

    Raises:
        InputError: as `load_pretrained`.
        Exception: whatever a network's own checks of its configuration raise.
    """
    if folder is not None:
        return load_pretrained(kind, folder, config=config, **arguments)
    config._attn_implementation = ATTENTION
    return kind(config, **arguments).float()


def load_pretrained(kind: Any, folder: Path, **arguments: Any) -> Any:
    """Build a network of `transformers` with the weights of a folder, in float32.

    Args:
        kind: its class.
        folder: of the model, or of a larger one that holds the network.
        arguments: of its constructor; `config`, where the folder's own is not to be read.

    Raises:
        InputError: the weights are missing, pickled, damaged or of another network.
    """
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise InputError(
            f"{folder}: has no {WEIGHTS[0]}; weights of other kinds can hide code and are not read"
        )
    try:
        network, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            attn_implementation=ATTENTION,
            **arguments,
        )
    except Exception as error:  # safetensors' own kind, and those of every layer below
        raise InputError(
            f"{folder}: its {WEIGHTS[0]} cannot be read, or is of another network than its "
            f"{CONFIG} ({reason(error)[:160]})"
        ) from error
    # Numbers of the positions, which older releases of the library saved with the weights.
    lacking = sorted(name for name in loading["missing_keys"] if not name.endswith("position_ids"))
    if lacking:
        raise InputError(
            f"{folder}: its {WEIGHTS[0]} lacks {len(lacking)} weights of the network of its "
            f"{CONFIG}, such as {lacking[0]}"
        )
    return network.float()
