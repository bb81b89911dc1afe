"""A volume is the same wherever it lies."""

import os

import pytest
import torch

from medsegdiff_auto.sampling import volume_store
from medsegdiff_auto.sampling.volume_store import SlabReader, Storage, blocks

SHAPE = (2, 3, 5, 4, 6)


@pytest.fixture(params=["memory", "disk"])
def storage(request, tmp_path):
    return Storage(tmp_path if request.param == "disk" else None)


def filled(storage, dtype=torch.float32):
    values = (100 * torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))).abs().to(dtype)
    store = storage.empty(SHAPE, dtype)
    store.write(slice(0, 2), values[:, :, :2])
    store.write(slice(2, 5), values[:, :, 2:])
    return values, store


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_what_is_written_is_read_bit_by_bit_as_a_whole_and_in_slabs(storage, dtype):
    values, store = filled(storage, dtype)
    assert torch.equal(store.read(), values) and store.shape == SHAPE
    assert torch.equal(store.read(slice(1, 4)), values[:, :, 1:4])


def test_values_that_no_shorter_format_would_keep_survive(storage):
    numbers = torch.tensor([1e-45, 1 + 2 ** -23, 3e38, float("inf"), -0.0, 1e-6]).reshape(1, 1, 1, 6)
    store = storage.empty(numbers.shape)
    store.write(slice(None), numbers)
    assert store.read().view(torch.int32).equal(numbers.view(torch.int32))


def test_an_entry_of_a_leading_axis_shares_the_values(storage):
    values, store = filled(storage)
    assert torch.equal(store[1].read(slice(2, 5)), values[1, :, 2:5]) and torch.equal(store[1][2].read(), values[1, 2])
    store[1][2].write(slice(3, 4), torch.zeros(1, 4, 6))
    values[1, 2, 3] = 0
    assert torch.equal(store.read(), values)


def test_a_crop_is_the_part_that_slicing_gives_also_of_an_entry_and_of_a_crop(storage):
    values, store = filled(storage)
    crop = store.cropped((slice(1, 5), slice(0, 3), slice(2, 6)))
    assert torch.equal(crop.read(), values[..., 1:5, 0:3, 2:6]) and crop.shape == (2, 3, 4, 3, 4)
    assert torch.equal(crop[1].read(slice(1, 3)), values[1, :, 2:4, 0:3, 2:6])
    assert torch.equal(crop.cropped((slice(1, 2), slice(1, 3), slice(0, 4))).read(), values[..., 2:3, 1:3, 2:6])


def test_values_are_broadcast_over_the_leading_axes(storage):
    store = storage.empty((2, 3, 4, 5))
    store.write(slice(0, 3), torch.arange(3.0).reshape(1, 3, 1, 1))
    assert store.read()[:, :, 1, 2].tolist() == [[0, 1, 2]] * 2


def test_a_volume_on_disk_leaves_no_file_and_gives_its_handle_back(tmp_path):
    _, store = filled(Storage(tmp_path))
    assert not list(tmp_path.iterdir())
    handle = store.file.fileno()
    del store
    with pytest.raises(OSError):
        os.fstat(handle)


def test_a_reader_reads_once_per_row_of_tiles(storage):
    values, store = filled(storage)
    reader = SlabReader(store)
    slab = reader(slice(0, 3))
    assert torch.equal(slab, values[:, :, :3]) and reader(slice(0, 3)) is slab
    assert torch.equal(reader(slice(2, 5)), values[:, :, 2:])


def test_blocks_cover_all_rows_once_and_hold_no_more_than_they_may(monkeypatch):
    monkeypatch.setattr(volume_store, "ELEMENTS_PER_BLOCK", 30)
    assert list(blocks(slice(2, 9), 10)) == [slice(2, 5), slice(5, 8), slice(8, 9)]
    assert list(blocks(slice(0, 2), 100)) == [slice(0, 1), slice(1, 2)]


def test_a_volume_made_in_inference_mode_can_be_written_outside_of_it():
    with torch.inference_mode():
        store = Storage().empty((1, 2, 2, 2))
        store.write(store.all_rows, torch.ones(1, 2, 2, 2))
    store.write(slice(0, 1), 3 * store.read(slice(0, 1)))
    assert store.read().sum() == 3 * 4 + 4
