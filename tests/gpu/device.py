"""The GPU of the tests."""

import torch


def exact_gpu() -> torch.device:
    """The first GPU, set to the number formats that are asked for: float32 is not TF32."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.conv.fp32_precision = "ieee"
    torch.backends.cudnn.benchmark = False
    return torch.device("cuda", 0)
