"""A GPU without a GPU: tensors on ``cuda`` have no content, those on the CPU are real, and what the host does is
recorded.

torch's FakeTensorMode alone would take the content of CPU tensors too, and with it the seeds, times and schedules that
decide what happens on the device. Here it only gets the operations in which a ``cuda`` tensor takes part.
"""

import contextlib
import traceback
from collections import Counter

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten
WAITING = (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default)
INDEXING = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default)


class FakeCuda(TorchDispatchMode):
    """Records, by the line of this package that caused them:

    Attributes:
        waits: operations for whose result the host waits: a number or a copy to the CPU, a boolean index.
        uploads: copies from the CPU.
        float64: tensors of that type on the device, which Apple's mps does not have.
    """

    def __init__(self):
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.waits, self.uploads, self.float64 = Counter(), Counter(), Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        keywords = keywords or {}
        # what autograd would have taken apart already
        if torch.is_inference_mode_enabled() and function.namespace == "aten":
            with self:
                parts = function.decompose(*arguments, **keywords)
            if parts is not NotImplemented:
                return parts
        tensors = [leaf for leaf in tree_leaves((arguments, keywords)) if isinstance(leaf, torch.Tensor)]
        on_device = [tensor for tensor in tensors if isinstance(tensor, FakeTensor) and tensor.device.type == "cuda"]
        target = torch.device(keywords["device"]).type if keywords.get("device") is not None else None
        if not on_device and target != "cuda":
            return function(*arguments, **keywords)
        self._record(function, arguments, on_device, target)
        with self.fake:
            result = function(*arguments, **keywords)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.device.type == "cuda" and leaf.dtype == torch.float64:
                self.float64[place()] += 1
        return result

    def _record(self, function, arguments, on_device, target) -> None:
        if (function in WAITING and on_device) or (target == "cpu" and on_device):
            self.waits[f"{function}: {place()}"] += 1
        if function is aten.copy_.default and arguments[0].device.type == "cpu":
            self.waits[f"{function}: {place()}"] += 1
        if function in INDEXING and any(
                isinstance(one, torch.Tensor) and (one.dtype == torch.bool or one.device.type == "cpu")
                for one in arguments[1]):
            self.waits[f"boolean or CPU index: {place()}"] += 1
        if function is aten._to_copy.default and target == "cuda" and not on_device:
            self.uploads[place()] += 1


def place() -> str:
    """The innermost line of this package on the stack, its own copying left out."""
    frames = [frame for frame in traceback.extract_stack()
              if "medsegdiff_auto/" in frame.filename and not frame.filename.endswith("transfer.py")]
    if not frames:
        return "elsewhere"
    innermost = frames[-1]
    return f"{innermost.filename.split('medsegdiff_auto/')[-1]}:{innermost.lineno} {innermost.line}"


@contextlib.contextmanager
def cuda_autocast():
    """Autocast of the GPU, which switches itself off where there is none."""
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.float16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
