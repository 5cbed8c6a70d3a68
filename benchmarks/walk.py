"""How much faster the sparse random walk is than a dense one, and how far apart they are.

    python -m benchmarks.walk [--sizes 30x40 60x80] [--rows 3] [--repeats 3]

The dense walk makes the transition matrix of all N cells and squares it until it stands for 256
steps, as the published method is usually written. Times depend on the machine; the ratio hardly.
"""

import argparse
import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from irnet.affinity.walk import random_walk, transition

RADIUS, BETA, STEPS = 5, 10.0, 256


def dense_walk(scores: Tensor, edges: Tensor) -> Tensor:
    """Scores (1, K, H, W) after 256 steps, by repeated squaring of the dense matrix (N, N)."""
    power = transition(edges, RADIUS, BETA).to_dense()
    for _ in range(int(math.log2(STEPS))):
        power = power @ power
    return ((scores * (1 - edges)).flatten(2) @ power.T).view(scores.shape)


def sparse_walk(scores: Tensor, edges: Tensor) -> Tensor:
    return random_walk(scores, edges, RADIUS, BETA, STEPS)


def fastest(walk: Callable[[Tensor, Tensor], Tensor], repeats: int, *inputs: Tensor) -> float:
    """Seconds of the fastest of some runs, after one that makes the tables of the grid."""
    walk(*inputs)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        walk(*inputs)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["30x40", "60x80"])
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    draw = torch.Generator().manual_seed(0)
    print("grid      dense s   sparse s   ratio   difference")
    for size in options.sizes:
        height, width = map(int, size.split("x"))
        edges = torch.rand((1, height, width), generator=draw) * 0.8
        scores = torch.rand((1, options.rows, height, width), generator=draw)
        dense = fastest(dense_walk, 1, scores, edges)
        sparse = fastest(sparse_walk, options.repeats, scores, edges)
        expected = dense_walk(scores, edges)
        apart = float((sparse_walk(scores, edges) - expected).abs().max() / expected.max())
        print(f"{size:8s}{dense:9.3f}{sparse:11.4f}{dense / sparse:8.0f}{apart:13.1e}")


if __name__ == "__main__":
    main()
