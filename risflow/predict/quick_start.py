"""A quicker first import of open_clip: 1 s instead of 9, for a command that is typed often.

open_clip imports torchvision, transformers and timm for models that are not used here, and
torchvision imports torch's compiler for one function that asks whether it is there. The first two
are left out while open_clip is imported, which it allows; the compiler is stood in for while
torchvision is. All can be imported as ever afterwards; open_clip then knows no Hugging Face and no
timm models in this process, so that only the command does this and `import risflow` does not.
"""

import sys
from types import ModuleType
from typing import Any

LEFT_OUT = ("transformers", "timm")
COMPILER = ("torch._dynamo", "torch._dynamo.utils")


def import_open_clip() -> None:
    """Import torchvision and open_clip without what they import for nothing."""
    import torch  # noqa: F401  # itself not under the stand-ins

    absent = [name for name in COMPILER if name not in sys.modules]
    stand_ins = {name: _StandIn(name) for name in absent}
    sys.modules.update(stand_ins)
    try:
        import torchvision  # noqa: F401
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
    absent = [name for name in LEFT_OUT if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None: not importable
    try:
        import open_clip  # noqa: F401
    finally:
        for name in absent:
            del sys.modules[name]


class _StandIn(ModuleType):
    """A module whose functions import the real one when they are called."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # a package, of which parts can be imported

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*arguments: Any, **options: Any) -> Any:
            import importlib

            return getattr(importlib.import_module(self.__name__), name)(*arguments, **options)

        return call
