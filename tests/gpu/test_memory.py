"""The largest published training fits into a GPU of 80 GB."""

import pytest
import torch

from benchmarks.throughput import noise, one_step
from stages.config.load import load_configs
from tests.conftest import ROOT

MOST = 60  # GiB


@pytest.mark.gpu
def test_rela_with_swin_base_trains_on_48_expressions_a_step_in_60_gib() -> None:
    experiment = load_configs(ROOT / "configs").experiments["rela_swinb_refcoco"]
    torch.cuda.reset_peak_memory_stats()
    config = experiment.segmentor
    one_step(experiment, "segmentor", noise(config, config.batch_size, torch.device("cuda", 0)))
    peak = torch.cuda.max_memory_allocated() / 2**30
    assert peak <= MOST
