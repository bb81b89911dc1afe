"""The instrument: each kind of fault that it is there for is found in two lines that have it, and in their mends it is
not.
"""

import pytest
import torch
from conftest import CUDA
from fake_cuda import cuda_autocast

from medsegdiff_auto.diffusion.transfer import entries, on_device


@pytest.fixture(params=[False, True], ids=["no_grad", "inference_mode"])
def x(gpu, request):
    with torch.inference_mode() if request.param else torch.no_grad():
        yield torch.zeros(4, 3, device=CUDA)


@pytest.mark.parametrize("wait", [
    lambda x: x.sum().item(), lambda x: bool(x.any()), lambda x: float(x.max()), lambda x: x.cpu(),
    lambda x: x.to("cpu"), lambda x: torch.zeros(4, 3).copy_(x), lambda x: x.nonzero(), lambda x: x[x > 0],
    lambda x: x[x[:, 0] > 0], lambda x: x.masked_select(x > 0), lambda x: x.sum().tolist()
])
def test_a_wait_of_the_host_is_found(gpu, x, wait):
    try:
        wait(x)
    except Exception:  # what needs a content that is not there
        pass
    assert sum(gpu.waits.values()) >= 1


def test_a_list_as_an_index_is_found_because_torch_itself_sends_it(gpu, x):
    with pytest.raises(RuntimeError, match="NVIDIA driver"):
        x[[0, 2]]


@pytest.mark.parametrize("fine", [
    lambda x: x + 1, lambda x: torch.where(x > 0, x, 0),
    lambda x: x.index_select(0, torch.zeros(2, dtype=torch.long, device=CUDA)), lambda x: entries(x, [0, 2, 2]),
    lambda x: x[1:3], lambda x: on_device(torch.ones(3), CUDA) * x, lambda x: x.sum()
])
def test_what_nobody_waits_for_is_not_counted(gpu, x, fine):
    fine(x)
    assert not gpu.waits


def test_tensors_of_two_devices_do_not_mix(gpu, x):
    with pytest.raises(RuntimeError, match="device"):
        x + torch.zeros(4, 3)


def test_float64_and_uploads_are_counted(gpu, x):
    on_device(torch.ones(3), CUDA)
    assert not gpu.float64 and sum(gpu.uploads.values()) == 1
    x.double()
    assert gpu.float64


def test_autocast_computes_in_half_precision_as_on_a_gpu(gpu, x):
    weight = torch.zeros(3, 3, device=CUDA)
    assert (x @ weight).dtype == torch.float32
    with cuda_autocast():
        assert (x @ weight).dtype == torch.float16
    assert (x @ weight).dtype == torch.float32


def test_tensors_on_the_cpu_keep_their_content(gpu):
    assert (torch.arange(3) + 1).tolist() == [1, 2, 3] and torch.zeros(2, device=CUDA).device.type == "cuda"
    assert not gpu.waits
