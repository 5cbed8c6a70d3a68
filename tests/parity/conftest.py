"""Where the golden values are computed anew: on the CPU, and on a GPU where there is one."""

import pytest
import torch

from tests.gpu.device import exact_gpu


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """The GPU computes in float32 proper (no TF32), to the tolerances of the CPU."""
    return torch.device("cpu") if request.param == "cpu" else exact_gpu()
