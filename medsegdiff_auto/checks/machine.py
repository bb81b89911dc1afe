"""What a machine must have for training and prediction: measured (:func:`measured`), and judged (:func:`judged`).

The judgement looks at nothing but what was measured. Free of torch until it measures.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from medsegdiff_auto.cores import FEWEST_PROCESSES, num_cores
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.granted import free_memory_bytes, memory_words
from medsegdiff_auto.nnunet.contract import require_checked_version
from medsegdiff_auto.paths import FOLDER_CONTENTS

OWN_NAME = "medsegdiff-auto"
OK, WARNING, ERROR = "ok", "warning", "error"
GB, MB = 1e9, 1e6
FEWEST_MEMORY, LITTLE_MEMORY = 1.5 * GB, 6 * GB  # a prediction of a small volume; a training with a few workers
LITTLE_GPU_MEMORY = 6 * GB
LITTLE_SHARED_MEMORY = 500 * MB
FEWEST_DISK, LITTLE_DISK = 1 * GB, 20 * GB
COMPILE_SECONDS = 300
SHARED_MEMORY, NVIDIA = Path("/dev/shm"), Path("/proc/driver/nvidia/version")
MATCH = "pip install -r requirements.lock, or a torch and a torchvision of the same release"
_COMPILE = ("import torch; d = 'cuda' if torch.cuda.is_available() else 'cpu'\n"
            "x = torch.linspace(-1, 1, 4096, device=d)\n"
            "assert torch.allclose(torch.compile(lambda v: (v * 2 + 1).sin())(x), (x * 2 + 1).sin(), atol=1e-5)")


@dataclass(frozen=True)
class Device:
    """A GPU.

    Attributes:
        half_precision: why it cannot compute in half precision; empty where it can.
    """

    name: str
    total_bytes: float
    free_bytes: float
    half_precision: str = ""


@dataclass(frozen=True)
class Place:
    """A folder that files are written to, or read from; None for one that is not named.

    Attributes:
        is_writable, free_bytes: of one that does not exist, those of the folder that it would be made in.
    """

    folder: str | None
    exists: bool = True
    is_writable: bool = True
    free_bytes: float = float("inf")


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        packages: name to installed version; None for what is not installed.
        unmet: requirements of this package that the installed ones do not meet, ``torch<2.16 (2.17.0)``.
        torchvision: why it does not work with torch; empty where it does.
        devices: GPUs that torch uses.
        has_nvidia_driver: whether the system has one.
        compiled: why compiling fails; empty where it works, None where it was not tried.
        memory: bytes that are free by what limits them.
        shared_memory: free bytes; None for a system without.
        processes: nnU-Net's environment variables that count processes, as far as they are set.
        folders: nnU-Net's, by variable.
        caches: folders for temporary files and caches, by the variable that moves them.
    """

    packages: Mapping[str, str | None]
    unmet: tuple[str, ...] = ()
    torchvision: str = ""
    devices: tuple[Device, ...] = ()
    has_nvidia_driver: bool = False
    compiled: str | None = None
    memory: Mapping[str, float] = field(default_factory=dict)
    cores: int = 1
    cores_of_machine: int = 1
    shared_memory: float | None = None
    processes: Mapping[str, int] = field(default_factory=dict)
    folders: Mapping[str, Place] = field(default_factory=dict)
    caches: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True)
class Judgement:
    """One line: what was looked at, how it is, what was found, and what to do; the fix is empty where all is well."""

    subject: str
    state: str
    found: str
    fix: str = ""


def judged(machine: Machine) -> list[Judgement]:
    """Everything that matters, one line each."""
    return [*_packages(machine), *_devices(machine), _compiled(machine), _memory(machine), _cores(machine),
            *_shared_memory(machine), *_folders(machine), *_caches(machine)]


def _packages(machine: Machine) -> Iterator[Judgement]:
    pair = f"torch {machine.packages.get('torch')}, torchvision {machine.packages.get('torchvision')}"
    if machine.torchvision:
        yield Judgement("torch and torchvision", ERROR, f"{pair}: {machine.torchvision}", MATCH)
    else:
        yield Judgement("torch and torchvision", OK, pair)
    installed = machine.packages.get("nnunetv2")
    try:
        require_checked_version(installed or "none")
        yield Judgement("nnU-Net", OK, f"nnunetv2 {installed}")
    except UserError as error:
        yield Judgement("nnU-Net", ERROR, f"nnunetv2 {installed}, not {error.expected}", error.fix)
    if machine.unmet:
        yield Judgement("packages", ERROR, ", ".join(machine.unmet), "pip install -r requirements.lock")
    else:
        yield Judgement("packages", OK, "all that are required")


def _devices(machine: Machine) -> Iterator[Judgement]:
    if not machine.devices and machine.has_nvidia_driver:
        yield Judgement("device", ERROR, "an NVIDIA driver, but no GPU that torch can use",
                        "install torch for the driver's CUDA version (nvidia-smi shows it); in a container, --gpus all")
    elif not machine.devices:
        yield Judgement("device", OK, "no GPU: give -device cpu; a training takes days rather than hours")
    for device in machine.devices:
        found = f"{device.name}, {device.free_bytes / GB:.1f} of {device.total_bytes / GB:.1f} GB free"
        little = device.free_bytes < LITTLE_GPU_MEMORY
        yield Judgement("device", WARNING if little else OK, found,
                        "end what else uses the GPU, or plan for less: -gpu_memory_target" if little else "")
        yield (Judgement("half precision", ERROR, device.half_precision, MATCH) if device.half_precision else
               Judgement("half precision", OK, f"works on {device.name}"))


def _compiled(machine: Machine) -> Judgement:
    if machine.compiled is None:
        return Judgement("compiling", OK, "not tried (--compile tries it)")
    if not machine.compiled:
        return Judgement("compiling", OK, "torch.compile works")
    return Judgement("compiling", WARNING, machine.compiled,
                     "export nnUNet_compile=f, which is slower, or install a C++ compiler (apt install g++)")


def _memory(machine: Machine) -> Judgement:
    free = min(machine.memory.values(), default=float("inf"))
    state = ERROR if free < FEWEST_MEMORY else WARNING if free < LITTLE_MEMORY else OK
    fix = "end other programs, raise the limit that is named (container: --memory; shell: ulimit), or give --max_memory"
    return Judgement("memory", state, f"{memory_words(dict(machine.memory))} free", fix if state != OK else "")


def _cores(machine: Machine) -> Judgement:
    found = f"{machine.cores} of {machine.cores_of_machine}"
    for variable, count in machine.processes.items():
        if count > 2 * machine.cores:
            return Judgement("cores", WARNING, f"{found}, but {variable}={count}",
                             f"export {variable}={max(machine.cores, FEWEST_PROCESSES[variable])}")
    return Judgement("cores", OK, found)


def _shared_memory(machine: Machine) -> Iterator[Judgement]:
    if machine.shared_memory is not None:
        little = machine.shared_memory < LITTLE_SHARED_MEMORY
        yield Judgement("shared memory", WARNING if little else OK, f"{machine.shared_memory / MB:.0f} MB free",
                        "give the container more (--shm-size 8g), or export nnUNet_n_proc_DA=0" if little else "")


def _folders(machine: Machine) -> Iterator[Judgement]:
    for variable, place in machine.folders.items():
        contents = FOLDER_CONTENTS[variable]
        if place.folder is None:
            yield Judgement(variable, WARNING, "not set",
                            f"export {variable}=FOLDER, which holds {contents}; prediction with -m needs none")
        elif not place.exists:
            yield Judgement(variable, ERROR, f"{place.folder} does not exist", f"mkdir -p {place.folder}")
        elif not place.is_writable and variable != "nnUNet_raw":
            yield Judgement(variable, ERROR, f"{place.folder} cannot be written",
                            f"repair its permissions, or let {variable} name another folder")
        else:
            yield _disk(variable, place)


def _caches(machine: Machine) -> Iterator[Judgement]:
    for variable, place in machine.caches.items():
        if not place.is_writable:
            yield Judgement(variable, ERROR if variable == "TMPDIR" else WARNING, f"{place.folder} cannot be written",
                            f"export {variable}=FOLDER that can be written")
        else:
            yield _disk(variable, place)


def _disk(variable: str, place: Place) -> Judgement:
    state = ERROR if place.free_bytes < FEWEST_DISK else WARNING if place.free_bytes < LITTLE_DISK else OK
    return Judgement(variable, state, f"{place.folder}, {place.free_bytes / GB:.1f} GB free",
                     f"make room, or let {variable} name a folder on another disk" if state != OK else "")


def measured(try_compiling: bool = False) -> Machine:
    """The machine as it is now, as far as it is granted to this process.

    Args:
        try_compiling: which takes up to minutes, in a process of its own.
    """
    packages = {name: _version(name) for name in ("torch", "torchvision", "nnunetv2")}
    processes = {name: int(os.environ[name]) for name in FEWEST_PROCESSES if os.environ.get(name, "").isdecimal()}
    folders = {name: _place(os.environ.get(name) or None) for name in FOLDER_CONTENTS}
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    caches = {"TMPDIR": _place(tempfile.gettempdir()), "XDG_CACHE_HOME": _place(home)}
    return Machine(packages, tuple(_unmet()), _torchvision(), tuple(_gpus()), NVIDIA.exists(),
                   _compile() if try_compiling else None, free_memory_bytes(), num_cores(), os.cpu_count() or 1,
                   shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else None, processes, folders,
                   caches)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _unmet() -> Iterator[str]:
    from packaging.requirements import Requirement

    if _version(OWN_NAME) is None:
        yield f"{OWN_NAME} (not installed, but run from its folder)"
        return
    for requirement in map(Requirement, requires(OWN_NAME) or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            installed = _version(requirement.name)
            if installed is None or not requirement.specifier.contains(installed, prereleases=True):
                yield f"{requirement.name}{requirement.specifier} ({installed or 'not installed'})"


def _torchvision() -> str:
    """Why torchvision's own operators do not run, in one line; a torchvision of another release lacks them."""
    try:
        import torch
        from torchvision.ops import nms

        kept = nms(torch.tensor([[0.0, 0, 1, 1], [0, 0, 1, 1]]), torch.tensor([0.5, 1.0]), 0.5).tolist()
        return "" if kept == [1] else f"its operators compute {kept} in the place of [1]"
    except Exception as failure:  # libraries that do not match fail in any way
        return _in_one_line(failure)


def _gpus() -> Iterator[Device]:
    try:
        import torch
    except Exception:  # named by the line about torchvision
        return
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        try:
            free, total = torch.cuda.mem_get_info(index)
            yield Device(torch.cuda.get_device_name(index), total, free, _half_precision(f"cuda:{index}"))
        except Exception as failure:
            yield Device(f"cuda:{index}", 0, 0, _in_one_line(failure))


def _half_precision(device: str) -> str:
    """Why a product in half precision is not what it is in float32, to three digits; empty where it is."""
    import torch

    try:
        values = torch.linspace(-1, 1, 64 * 64, device=device).reshape(64, 64)
        with torch.autocast("cuda"):
            product = values @ values
        apart = (product.float() - values @ values).abs().max().item()
        return "" if product.dtype == torch.float16 and apart < 0.05 else f"{product.dtype}, off by {apart:.2g}"
    except Exception as failure:
        return _in_one_line(failure)


def _compile() -> str:
    try:
        done = subprocess.run([sys.executable, "-c", _COMPILE], capture_output=True, text=True, timeout=COMPILE_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not done after {COMPILE_SECONDS} s"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[-1] if lines else f"exit code {done.returncode}")[:200]


def _place(folder: str | None) -> Place:
    if folder is None:
        return Place(None)
    nearest = next(one for one in (Path(folder).absolute(), *Path(folder).absolute().parents) if one.exists())
    return Place(folder, Path(folder).is_dir(), os.access(nearest, os.W_OK), shutil.disk_usage(nearest).free)


def _in_one_line(failure: Exception) -> str:
    return f"{type(failure).__name__}: {' '.join(str(failure).split())}"[:200]
