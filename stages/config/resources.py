"""What the jobs of each step ask for: threads, GPUs, memory, time."""

from collections.abc import Mapping
from typing import Literal

from stages.config.section import Count, Positive, Section

# Steps of an experiment, which it may set the resources of; `default` is for all of them.
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
    "score",
    "make_report",
]
# Steps that serve several experiments: a profile may set theirs (set-threads, set-resources).
SharedStep = Literal[
    "make_refshapes",
    "pretrain_clip",
    "prepare",
    "mix",
    "resize_images",
    "encode_text",
    "import_checkpoint",
    "compare",
]
Name = Literal["threads", "gpu", "mem_mb", "runtime"]


class Resources(Section):
    """What a job of a step asks for; what an experiment does not set is taken from the table."""

    threads: Positive | None = None
    gpu: Count | None = None
    mem_mb: Positive | None = None
    runtime: Positive | None = None  # minutes


def _on_gpu(runtime: int) -> Resources:
    """A GPU and the processes that feed it; torch with CUDA takes 4 GB before it reads an image."""
    return Resources(threads=8, gpu=1, mem_mb=16000, runtime=runtime)


def _on_cpu(mem_mb: int, runtime: int, threads: int = 1) -> Resources:
    return Resources(threads=threads, gpu=0, mem_mb=mem_mb, runtime=runtime)


# Enough for RefCOCO: 20,000 images, 50,000 objects, 142,000 expressions.
STEP_RESOURCES: Mapping[Step | SharedStep, Resources] = {
    "make_refshapes": _on_cpu(2000, 60),
    "pretrain_clip": Resources(threads=2, gpu=1, mem_mb=8000, runtime=240),
    "prepare": _on_cpu(4000, 60, threads=8),
    "mix": _on_cpu(4000, 60),
    "resize_images": _on_cpu(8000, 240, threads=8),
    "encode_text": Resources(threads=1, gpu=1, mem_mb=8000, runtime=60),
    "train_stage1": _on_gpu(1440),
    "select_maps": _on_gpu(1440),
    "make_labels": _on_cpu(16000, 1440, threads=8),
    "train_affinity": _on_gpu(1440),
    "propagate": _on_gpu(1440),
    "train_segmentor": _on_gpu(1440),
    "import_checkpoint": _on_cpu(8000, 30),
    "predict": _on_gpu(240),
    "evaluate": _on_cpu(2000, 60),
    "score": _on_cpu(2000, 60),
    "make_report": _on_cpu(4000, 60),
    "compare": _on_cpu(2000, 10),
}


def resource(
    step: Step | SharedStep, name: Name, chosen: Mapping[Step, Resources] | None = None
) -> int:
    """What a step asks for: what an experiment chose for it, or by default, or the table's.

    A step that has no use for a GPU gets none by default.
    """
    known = [values for key, values in (chosen or {}).items() if key == step]
    usual = getattr(STEP_RESOURCES[step], name)
    if chosen and "default" in chosen and (name, usual) != ("gpu", 0):
        known.append(chosen["default"])
    values = [getattr(values, name) for values in known]
    return next((value for value in values if value is not None), usual)
