"""How networks compute, so that their results depend on nothing but their input.

On a processor the number of threads decides where a vector is cut, and so the last digits. On a
GPU the library may try several algorithms and keep the fastest, which differs from run to run, and
TensorFloat-32 drops 13 of 23 bits of what goes into a convolution.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def exact(threads: int = 1) -> Iterator[None]:
    """Inference with that many threads, in full float32, by fixed algorithms.

    What was set before comes back afterwards: the caller may be training.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.get_num_threads(), matmul.allow_tf32
    torch.set_num_threads(threads)
    matmul.allow_tf32 = False
    try:
        with (
            torch.inference_mode(),
            cudnn.flags(
                enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            yield
    finally:
        torch.set_num_threads(before[0])
        matmul.allow_tf32 = before[1]
