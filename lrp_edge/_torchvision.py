"""Let Lightning be imported next to a torchvision that does not fit torch.

torchmetrics, which Lightning imports, imports torchvision where that is installed. A torchvision built for
another kind of torch (CUDA next to CPU) fails on two operators that its compiled part would have declared.
Nothing here uses them; declaring their names is all that the import wants.
"""

from __future__ import annotations

import contextlib
from importlib.util import find_spec

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]


def _imports() -> bool:
    try:
        import torchvision  # type: ignore[import-untyped]  # noqa: F401
    except RuntimeError:
        return False
    return True


if find_spec("torchvision") and not _imports():
    for _name in ("nms", "qnms"):
        with contextlib.suppress(RuntimeError):
            _library.define(  # type: ignore[no-untyped-call]
                f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
