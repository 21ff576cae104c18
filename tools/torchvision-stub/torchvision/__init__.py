"""Stands in for torchvision in the environment of the peers, and nowhere else.

Several peers import torchvision for data sets and transforms that the benchmark never calls, and the wheel that comes
with them is built for CUDA and breaks beside a CPU torch ("operator torchvision::nms does not exist"). Here every
submodule exists and every name in it is an empty class: imports pass, and a use of one fails at once.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.99.0"
__path__ = []


def _placeholder(module: str, name: str) -> type:
    def refuse(self, *args, **kwargs):
        raise NotImplementedError(f"{module}.{name}: torchvision is a stub in the environment of the peers")

    return type(name, (), {"__init__": refuse, "__module__": module})


class _Stub(ModuleType):
    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        value = _placeholder(self.__name__, name)
        setattr(self, name, value)
        return value


class _Finder(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        if fullname.startswith("torchvision."):
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec):
        module = _Stub(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module):
        pass


sys.meta_path.append(_Finder())
sys.modules[__name__].__class__ = _Stub
