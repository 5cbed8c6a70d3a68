"""The random walk that spreads scores over a grid, up to edges.

Ahn et al. (IRNet, CVPR 2019), section 5; official misc/indexing.py. The official code makes the
dense matrix T between all N cells of the grid and squares it eight times to apply T^256 to a few
rows. Here T is sparse: a cell has about 69 neighbors, and the rows take `steps` sparse steps.
On a 60 x 80 grid that is over a hundred times less work; in float32 the two differ by 1e-4.

Several images of one size walk at once, by one matrix with a block for each.

Shapes: B images, K rows of each, D directions, H x W grid, N = H W cells.
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from irnet.affinity.pairs import directions, path_affinity


@dataclass(frozen=True)
class Neighbors:
    """The non-zero entries of the transition matrix of a grid, row after row."""

    starts: Tensor  # (N + 1,) where the entries of each row begin
    columns: Tensor  # (entries,) the cell that walks into the row's cell
    rows: Tensor  # (entries,)
    pairs: Tensor  # (entries,) its place in the flat (D, H, W) affinities; D H W: the cell itself


CELLS_TO_KEEP = 40_000  # of a grid: 60 MB at radius 5; tables of larger ones are made each time


def neighbors(radius: int, height: int, width: int, device: torch.device) -> Neighbors:
    """The pairs of a grid, which only depend on its size; kept on the device for some sizes."""
    if height * width > CELLS_TO_KEEP:
        return _neighbors(radius, height, width, device)
    return _kept_neighbors(radius, height, width, device)


def _neighbors(radius: int, height: int, width: int, device: torch.device) -> Neighbors:
    cells = torch.arange(height * width).view(height, width)
    rows, columns, places = [cells.flatten()], [cells.flatten()], [torch.full_like(cells, -1)]
    for number, pair in enumerate(directions(radius)):
        left, right = max(0, -pair.right), width - max(0, pair.right)
        near = cells[: max(0, height - pair.down), left : max(left, right)].flatten()
        far = near + pair.down * width + pair.right
        rows += [near, far]
        columns += [far, near]
        places += [number * cells.numel() + near] * 2
    row, column = torch.cat(rows), torch.cat(columns)
    place = torch.cat([indices.flatten() for indices in places])
    place[place < 0] = len(directions(radius)) * cells.numel()
    order = torch.argsort(row * cells.numel() + column)
    starts = torch.zeros(cells.numel() + 1, dtype=torch.int32)
    starts[1:] = torch.bincount(row, minlength=cells.numel()).cumsum(0)
    tables = (starts, column[order].int(), row[order], place[order])
    return Neighbors(*(table.to(device) for table in tables))


_kept_neighbors = lru_cache(maxsize=16)(_neighbors)


def transition(edges: Tensor, radius: int, beta: float) -> Tensor:
    """The transposed transition matrix (B N, B N) of edge maps (B, H, W), as sparse rows.

    Entry (j, i) is the probability with which a score at cell i arrives at cell j: their affinity
    to the power of beta, over the sum of all affinities of j (the official normalization). Between
    cells of two images it is 0.
    Made in float64, because the walk repeats the rounding of its entries hundreds of times.
    """
    images, height, width = edges.shape
    cells, reach = height * width, radius - 1
    # Outside the image everything is edge, so that no pair leaves it.
    padded = F.pad(edges.double(), (reach, reach, 0, reach), value=1.0)
    affinity = path_affinity(padded, radius).pow(beta).flatten(1)  # (B, D H W)
    entries = neighbors(radius, height, width, edges.device)
    values = F.pad(affinity, (0, 1), value=1.0)[:, entries.pairs]  # (B, entries)
    totals = values.new_zeros(images, cells).index_add_(1, entries.rows, values)
    probabilities = (values / totals[:, entries.rows]).to(edges.dtype)
    image = torch.arange(images, dtype=torch.int32, device=edges.device)[:, None]
    starts = entries.starts[:-1] + image * len(entries.rows)
    with warnings.catch_warnings():
        # torch warns that CSR is new and (2.11) that invariants are not checked.
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor|invariant checks)")
        return torch.sparse_csr_tensor(
            F.pad(starts.flatten(), (0, 1), value=values.numel()),
            (entries.columns + image * cells).flatten(),
            probabilities.flatten(),
            size=(images * cells, images * cells),
            check_invariants=False,
        )


def random_walk(scores: Tensor, edges: Tensor, radius: int, beta: float, steps: int) -> Tensor:
    """Scores (B, K, H, W) after `steps` steps of the walk on edge maps (B, H, W) in [0, 1].

    As in the official code the scores are first weakened where the edge map is strong.
    """
    if scores.numel() == 0:
        return scores
    images, count, height, width = scores.shape
    matrix = transition(edges, radius, beta)
    weakened = scores * (1 - edges[:, None])
    rows = weakened.permute(0, 2, 3, 1).reshape(-1, count).contiguous()  # (B N, K)
    for _ in range(steps):
        rows = matrix @ rows
    return rows.view(images, height, width, count).permute(0, 3, 1, 2).contiguous()
