"""Writes which GPUs it was given into a folder, and stays: python -m tests.hold_gpu FOLDER."""

import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    place = Path(sys.argv[1]) / f"{os.getpid()}.gpus"
    place.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
    time.sleep(600)
