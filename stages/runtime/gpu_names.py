"""The GPUs that CUDA_VISIBLE_DEVICES names, as CUDA reads it (CUDA programming guide, 5.2)."""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path

# A number, a UUID or its beginning, a MIG instance in its two forms: MIG-<UUID>, and that of
# drivers before 470, MIG-<UUID of the GPU>/<GPU instance>/<compute instance>.
NAME = re.compile(r"\d+|GPU-[0-9a-f-]+|MIG-[0-9a-f-]+|MIG-GPU-[0-9a-f-]+/\d+/\d+", re.IGNORECASE)
NONE = ("-1", "nodevfiles", "none", "void")  # SLURM's NoDevFiles: the job was given no GPU

log = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """Names of the GPUs that may be used, without loading CUDA; all of the machine if none is set.

    The list ends at the first name that is none, as for CUDA. A name that stands twice counts once.
    """
    text = os.environ.get("CUDA_VISIBLE_DEVICES")
    if text is None:
        return [str(number) for number in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]
    return read_names(text.split(","))


def read_names(names: Sequence[str]) -> list[str]:
    """The names of GPUs in a list, up to the first that is none."""
    known: list[str] = []
    for name in map(str.strip, names):
        if not NAME.fullmatch(name):
            if name and name.lower() not in NONE:
                log.warning(
                    "CUDA_VISIBLE_DEVICES: %r is no GPU; it and what follows is not used", name
                )
            return known
        if name.isdigit():
            name = str(int(name))  # 00 and 0 are one
        if name in known:
            log.warning("CUDA_VISIBLE_DEVICES: %s stands twice; it is used once", name)
        else:
            known.append(name)
    return known


def is_mig(name: str) -> bool:
    """Whether a name is of an instance of a GPU that is divided: a process is given one of them."""
    return name.upper().startswith("MIG-")
