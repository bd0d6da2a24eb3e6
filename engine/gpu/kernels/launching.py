"""Whether Triton works on a GPU: it needs a C compiler, Python's headers and a folder to write.

Each of them may be missing where torch itself runs, and each fails in its own way, with the first
kernel that is launched.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from hficma.limits import reason

SIZE = 16


@triton.jit
def _count_kernel(out, COUNT: tl.constexpr):
    """Write 0, 1, ... COUNT - 1."""
    number = tl.arange(0, COUNT)
    tl.store(out + number, number)


def why_no_launch(device: torch.device) -> str | None:
    """Return why no kernel can be compiled and launched; None where one ran.

    Args:
        device: a GPU, or the CPU for Triton's interpreter.
    """
    try:
        out = torch.zeros(SIZE, dtype=torch.int32, device=device)
        _count_kernel[(1,)](out, SIZE)
        if out.tolist() != list(range(SIZE)):
            return "a kernel of Triton wrote something else than it should"
    # Compilers, linkers, file systems and drivers fail here, each by exceptions of its own.
    except Exception as error:
        return f"Triton cannot launch a kernel ({type(error).__name__}: {reason(error)})"
    return None
