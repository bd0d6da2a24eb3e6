"""The build backend: setuptools', but for an editable install that Python's path finds.

The folders beside `hficma/` are its sub-packages. setuptools maps such a layout by a finder that
Python asks after its path only: a folder called `hficma` where Python is started (the parent of a
clone), or another install further down the path, would be found first. So an editable install is
one module here, `hficma/__init__.py` in site-packages, which loads the checkout's;
`hficma/checkout.py` then finds the folders.

The kernels of `engine/native` are compiled first, into the folder where they are looked for, so a
wheel holds them and a checkout finds them. They are plain C: a wheel is for one system and every
Python. Where nothing compiles them the package is whole without, and says so where it is slower.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

from setuptools import build_meta
from setuptools.build_meta import (
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_Settings = dict[str, str | list[str] | None]

_REDIRECT = '''\
"""Written by an editable install: loads hficma from its checkout."""

import importlib.util
import sys

_file = {file!r}
_spec = importlib.util.spec_from_file_location(__name__, _file)
_module = importlib.util.module_from_spec(_spec)
sys.modules[__name__] = _module  # which is what `import` then returns
try:
    _spec.loader.exec_module(_module)
except FileNotFoundError as error:
    if error.filename != _file:
        raise
    message = f"hficma was installed from {{_file}}, which is gone: install it again"
    raise ImportError(message) from None
'''
_WHEEL = """\
Wheel-Version: 1.0
Generator: hficma
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build_wheel(
    wheel_directory: str,
    config_settings: _Settings | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Write a wheel, with the compiled kernels where there is a compiler; return its name."""
    settings = dict(config_settings or {})
    if _compile_kernels():
        options = settings.get("--build-option") or []
        options = options.split() if isinstance(options, str) else list(options)
        if not any(option.startswith(("--plat-name", "-p")) for option in options):
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            options.append(f"--plat-name={system}")
        settings["--build-option"] = options
    return build_meta.build_wheel(wheel_directory, settings, metadata_directory)


def build_editable(
    wheel_directory: str,
    config_settings: _Settings | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Write a wheel (PEP 660) of the metadata and the one module; return its name."""
    _compile_kernels()
    package = Path(__file__).parent / "hficma" / "__init__.py"
    files = {"hficma/__init__.py": _REDIRECT.format(file=str(package)).encode()}
    with tempfile.TemporaryDirectory() as scratch:
        metadata = prepare_metadata_for_build_editable(scratch, config_settings)
        for file in sorted(Path(scratch, metadata).rglob("*")):
            if file.is_file():
                files[file.relative_to(scratch).as_posix()] = file.read_bytes()
    files[f"{metadata}/WHEEL"] = _WHEEL.encode()
    record = [f"{file},sha256={_digest(content)},{len(content)}" for file, content in files.items()]
    record.append(f"{metadata}/RECORD,,\n")
    files[f"{metadata}/RECORD"] = "\n".join(record).encode()

    name = f"{metadata.removesuffix('.dist-info')}-py3-none-any.whl"
    with zipfile.ZipFile(Path(wheel_directory, name), "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, content in files.items():
            wheel.writestr(path, content)
    return name


def _compile_kernels() -> bool:
    """Compile the kernels into their folder, and return whether they lie there.

    An older library is removed where it cannot be made again: it would compute something else.
    """
    folder = Path(__file__).parent / "engine" / "native"
    # By its path: the package that it is part of is not installed yet.
    spec = importlib.util.spec_from_file_location("hficma_native_build", folder / "build.py")
    assert spec is not None
    assert spec.loader is not None
    builder = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(builder)
    try:
        builder.build()
    except (builder.BuildError, OSError) as error:
        (folder / builder.LIBRARY).unlink(missing_ok=True)
        print(f"hficma: built without compiled kernels ({error})", file=sys.stderr)
        return False
    return True


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
