"""Memory within every limit that the process has, on trees of files as the kernel writes them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from medsegdiff_auto.granted import MANY_CORES, core_quota, free_memory_bytes, memory_words

UNLIMITED_1 = 9223372036854771712


@pytest.fixture
def proc(tmp_path):
    """A /proc of a machine with 20 GB available, and a process in no group."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemTotal:  24000000 kB\nMemAvailable:  20000000 kB\n")
    (tmp_path / "proc" / "self" / "status").write_text("VmSize: 4000000 kB\nVmData: 1000000 kB\n")
    (tmp_path / "proc" / "self" / "cgroup").write_text("0::/\n")
    return tmp_path / "proc"


def group(folder: Path, **files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(f"{content}\n")


def in_group(proc, line: str) -> None:
    (proc / "self" / "cgroup").write_text(f"{line}\n")


def test_without_a_limit_it_is_what_the_machine_has_available(proc, tmp_path):
    assert free_memory_bytes(proc, tmp_path / "none") == {"machine": 20e6 * 1024}
    assert free_memory_bytes(tmp_path / "nowhere", tmp_path / "none") == {}


@pytest.mark.parametrize("line, mount, limit, used, cached", [
    ("0::/job/step", "", "memory__max", "memory__current", "inactive_file"),
    ("4:cpu,memory:/job/step", "memory", "memory__limit_in_bytes", "memory__usage_in_bytes", "total_inactive_file")],
    ids=["version 2", "version 1"])
def test_the_tightest_group_above_the_process_counts_and_its_cached_files_are_free(proc, tmp_path, line, mount, limit,
                                                                                  used, cached):
    in_group(proc, line)
    root = tmp_path / "cgroup" / mount
    group(root, **{limit: "max" if not mount else UNLIMITED_1, used: 10 ** 10})
    group(root / "job", **{limit: 3 * 10 ** 9, used: 2 * 10 ** 9, "memory__stat": f"anon 5\n{cached} 500000000"})
    group(root / "job" / "step", **{limit: 4 * 10 ** 9, used: 1 * 10 ** 9})
    assert free_memory_bytes(proc, tmp_path / "cgroup")["cgroup"] == 1.5e9
    (root / "job" / limit.replace("__", ".")).write_text("max\n" if not mount else f"{UNLIMITED_1}\n")
    assert free_memory_bytes(proc, tmp_path / "cgroup")["cgroup"] == 3e9


def test_in_a_container_the_own_group_is_the_root_of_what_is_mounted(proc, tmp_path):
    in_group(proc, "0::/../../docker/1234")
    group(tmp_path / "cgroup", memory__max=2 * 10 ** 9, memory__current=25 * 10 ** 8)
    assert free_memory_bytes(proc, tmp_path / "cgroup")["cgroup"] == 0  # over its limit, and not less than nothing


@pytest.mark.parametrize("quota, period, cores", [(150000, 100000, 2), (50000, 100000, 1), (400000, 100000, 4)])
def test_cores_are_those_of_the_tightest_quota_and_a_part_of_one_is_one(proc, tmp_path, quota, period, cores):
    in_group(proc, "0::/job/step")
    assert core_quota(proc, tmp_path / "cgroup") == MANY_CORES
    group(tmp_path / "cgroup" / "job" / "step", cpu__max="max 100000")
    group(tmp_path / "cgroup" / "job", cpu__max=f"{quota} {period}")
    assert core_quota(proc, tmp_path / "cgroup") == cores
    in_group(proc, "3:cpu,cpuacct:/job")
    group(tmp_path / "cgroup" / "cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert core_quota(proc, tmp_path / "cgroup") == MANY_CORES
    group(tmp_path / "cgroup" / "cpu" / "job", cpu__cfs_quota_us=quota, cpu__cfs_period_us=period)
    assert core_quota(proc, tmp_path / "cgroup") == cores


def test_the_words_name_the_least_first():
    assert memory_words({"machine": 20e9, "RLIMIT_DATA": 2.1e9}) == "2.1 GB (RLIMIT_DATA; machine 20.0)"
    assert memory_words({"machine": 20e9}) == "20.0 GB (machine)" and memory_words({}) == "unknown"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts mappings on Linux only")
@pytest.mark.parametrize("name, flag", [("RLIMIT_DATA", "-d"), ("RLIMIT_AS", "-v")])
def test_a_limit_of_the_shell_counts_less_what_the_process_has_mapped(name, flag):
    program = "from medsegdiff_auto.granted import free_memory_bytes; print(free_memory_bytes())"
    run = subprocess.run(["bash", "-c", f'ulimit {flag} 2000000 && exec "$0" -c "$1"', sys.executable, program],
                         capture_output=True, text=True, check=True)
    found = ast.literal_eval(run.stdout)
    assert 0 < found[name] < 2000000 * 1024
    assert found[name] < found["machine"] or found["machine"] < 2e9
