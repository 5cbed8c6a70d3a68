"""What the jobs of each step ask for: threads, GPUs, memory, time."""

from typing import Literal

from stages.core.section import Count, Positive, Section

Step = Literal[
    "default",
    "train_stage1",
    "select_maps",
    "make_labels",
    "train_affinity",
    "propagate",
    "train_segmentor",
    "predict",
    "evaluate",
]


class Resources(Section):
    """What a job of a step asks for; what is not set is taken from `default`."""

    threads: Positive | None = None
    gpu: Count | None = None
    mem_mb: Positive | None = None
    runtime: Positive | None = None  # minutes


DEFAULT_RESOURCES = Resources(threads=8, gpu=1, mem_mb=16000, runtime=1440)
