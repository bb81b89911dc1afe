"""What the machine, a container, a scheduler and the shell's limits leave this process. Free of torch.

    limit          whose
    machine        what the system has available
    cgroup         of the process's control group and all above it: containers and schedulers, version 1 or 2
    RLIMIT_DATA    ``ulimit -d``: the heap and anonymous mappings, touched or not
    RLIMIT_AS      ``ulimit -v``: all mappings

A limit counts less what is used of it; cached files of a control group count as free, since the system drops them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
NO_LIMIT_FROM = 2 ** 60  # what version 1 writes where there is none
KILOBYTE, MANY_CORES = 1024.0, 2 ** 20
# files of a group: limit, use, key of memory.stat for cached files
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory_bytes(proc: Path = PROC, cgroups: Path = CGROUPS) -> dict[str, float]:
    """Bytes that are free now by what limits them; those that set no limit, and systems that do not tell, are absent.
    """
    found = {}
    available = _kilobytes(proc / "meminfo", "MemAvailable")
    if available is not None:
        found["machine"] = KILOBYTE * available
    of_groups = list(_left_in_groups(proc, cgroups))
    if of_groups:
        found["cgroup"] = max(0.0, min(of_groups))
    for name, used in (("RLIMIT_DATA", "VmData"), ("RLIMIT_AS", "VmSize")):
        limit = -1 if resource is None else resource.getrlimit(getattr(resource, name))[0]
        taken = _kilobytes(proc / "self" / "status", used)
        if 0 <= limit < NO_LIMIT_FROM and taken is not None:
            found[name] = max(0.0, limit - KILOBYTE * taken)
    return found


def memory_words(free: dict[str, float]) -> str:
    """How much is free, and what says so where that is not the machine: ``2.1 GB (RLIMIT_DATA; machine 20.3)``."""
    if not free:
        return "unknown"
    least = min(free, key=free.__getitem__)
    others = [f"{name} {value / 1e9:.1f}" for name, value in free.items() if name != least]
    return f"{free[least] / 1e9:.1f} GB ({'; '.join([least, *others])})"


def _left_in_groups(proc: Path, cgroups: Path) -> Iterator[float]:
    """What every group with a limit, from the process's own up to the root of what is mounted, has left."""
    for folder, version in _groups("memory", proc, cgroups):
        left = _left_in_group(folder, *(VERSION_2 if version == 2 else VERSION_1))
        if left is not None:
            yield left


def core_quota(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Cores that the process's control group and all above it grant in time, a part of one as one; many where none
    limits them.
    """
    quotas = [MANY_CORES]
    for folder, version in _groups("cpu", proc, cgroups):
        words = (_text(folder / "cpu.max").split() if version == 2 else
                 [_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")])
        if len(words) == 2 and all(word.isdigit() and int(word) for word in words):  # "max" and -1 set no limit
            quotas.append(-(-int(words[0]) // int(words[1])))
    return min(quotas)


def _groups(controller: str, proc: Path, cgroups: Path) -> Iterator[tuple[Path, int]]:
    """Folders of the process's own group and of those above it, up to the root of what is mounted, and the version."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        number, controllers, place = line.split(":", 2)
        if number != "0" and controller not in controllers.split(","):
            continue
        mount, version = (cgroups, 2) if number == "0" else (cgroups / controller, 1)
        group = mount / place.lstrip("/")
        for folder in [group, *group.parents]:
            if folder == mount or mount in folder.parents:
                yield folder, version


def _left_in_group(folder: Path, limit: str, used: str, cached: str) -> float | None:
    of_limit, of_use = _text(folder / limit).strip(), _text(folder / used).strip()
    if not (of_limit.isdigit() and of_use.isdigit()) or int(of_limit) >= NO_LIMIT_FROM:
        return None
    of_files = [int(line.split()[1]) for line in _text(folder / "memory.stat").splitlines()
                if line.startswith(f"{cached} ")]
    return float(int(of_limit) - int(of_use) + sum(of_files))


def _kilobytes(file: Path, key: str) -> int | None:
    lines = [line for line in _text(file).splitlines() if line.startswith(f"{key}:")]
    return int(lines[0].split()[1]) if lines else None


def _text(file: Path) -> str:
    """The file's text; nothing where it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
