"""What the quicker import of open_clip leaves out, and that it can be imported afterwards."""

import subprocess
import sys

CHECK = """
import sys
from risflow.predict.quick_start import import_open_clip
import_open_clip()
assert "open_clip" in sys.modules and "torchvision" in sys.modules
assert not {"torch._dynamo", "sympy", "timm", "transformers"} & set(sys.modules)
import stages.models.tris
assert not {"torch._dynamo", "sympy", "timm", "transformers"} & set(sys.modules)
import torch, torchvision, timm.layers, transformers
import stages.models.rela, stages.models.detris
boxes, scores = torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.5, 0.9])
assert torchvision.ops.nms(boxes, scores, 0.5).tolist() == [1]
torchvision.ops.roi_align(torch.ones(1, 1, 4, 4), [boxes], 1)  # asks for the compiler
weight = torch.nn.Parameter(torch.zeros(1))
optimizer = torch.optim.SGD([weight], lr=1.0)
weight.sum().backward()
optimizer.step()
assert weight.item() == -1
import torch._dynamo
assert torch._dynamo.is_compiling() is False
"""


def test_what_is_left_out_is_there_when_it_is_needed() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
