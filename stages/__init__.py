"""The steps of risflow: every module here is one command, every folder is code that steps share."""

import os

# Threads that spin while they wait cost up to seven times the work when steps share cores; those
# that sleep at once make short steps slow (0.19 s, not 0.12, on two cores). These spin briefly.
# OpenMP reads this once, when torch is first imported, so it is set before anything else.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
