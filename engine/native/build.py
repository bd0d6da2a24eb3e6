"""Compile the kernels: `python engine/native/build.py`, and what builds of the package call.

Only the standard library, and no import of the package: it is not installed yet where this runs.
What comes out is a plain library for `ctypes`, with nothing of Python in it, so one file serves
every version of Python. Each kind of processor has its variant inside; which one runs is decided
where it is loaded.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = FOLDER / "kernels"
LIBRARY = "libkernels.so"
"""The file's name, also where the system's own suffix is another: `ctypes` takes any."""

FLAGS = ("-O3", "-fPIC", "-std=gnu11", "-ffp-contract=fast", "-fvisibility=hidden", "-Wall")
"""No -ffast-math: sums must not be ordered anew, or an item's score would depend on its tile."""

AVX512 = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512"
VARIANTS = {
    "portable": "-DVECTOR_BYTES=16",
    "avx2": "-DVECTOR_BYTES=32 -mavx2 -mfma -mf16c",
    "avx512": f"-DVECTOR_BYTES=64 {AVX512}",
    "avx512bf16": f"-DVECTOR_BYTES=64 -DBF16 {AVX512} -mavx512bf16",
}
"""Flags of each kind of processor; those behind `portable` are for x86-64."""


class BuildError(Exception):
    """There is no compiler, or it fails."""


def build(folder: Path = FOLDER, *, flags: tuple[str, ...] = ()) -> Path:
    """Compile the library, unless it is newer than all that it is made of.

    Args:
        folder: where it goes.
        flags: further ones, such as a sanitizer's.

    Raises:
        BuildError: with what the compiler says.
    """
    library = folder / LIBRARY
    sources = [*sorted(SOURCES.iterdir()), Path(__file__)]
    if not flags and library.is_file():
        built = library.stat().st_mtime
        if all(source.stat().st_mtime <= built for source in sources):
            return library
    compiler = _compiler()
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    with tempfile.TemporaryDirectory() as scratch:
        common = [*compiler, *FLAGS, *flags]
        jobs = {"dispatch": ["-DX86"] if x86 else []}
        for name, variant_flags in VARIANTS.items():
            if x86 or name == "portable":
                jobs[name] = [f"-DVARIANT={name}", *shlex.split(variant_flags)]
        # Side by side: each takes a second or two.
        running = {}
        for name, own in jobs.items():
            source = SOURCES / ("dispatch.c" if name == "dispatch" else "variant.c")
            command = [*common, *own, "-c", str(source), "-o", str(Path(scratch, f"{name}.o"))]
            running[name] = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        said = {name: process.communicate()[0] for name, process in running.items()}
        for name, process in running.items():
            if process.returncode:
                raise BuildError(f"{compiler[0]} cannot compile {name}: {said[name].strip()}")
        objects = [str(Path(scratch, f"{name}.o")) for name in jobs]
        whole = Path(scratch, LIBRARY)
        linked = subprocess.run(
            [*common, "-shared", *objects, "-o", str(whole)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if linked.returncode:
            raise BuildError(f"{compiler[0]} cannot link: {linked.stdout.strip()}")
        # Renamed into place: a process that has the old one mapped keeps it.
        part = folder / f".{LIBRARY}.{os.getpid()}"
        shutil.copy(whole, part)
        part.replace(library)
    return library


def _compiler() -> list[str]:
    """Return the C compiler's command: `CC`, or what Python was built with, or `cc`.

    Raises:
        BuildError: there is none, or one without vector types.
    """
    if os.name == "nt":
        raise BuildError("the kernels need GCC or Clang")
    for command in (os.environ.get("CC"), "cc", "gcc", "clang", sysconfig.get_config_var("CC")):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    raise BuildError("there is no C compiler")


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as error:
        sys.exit(str(error))
