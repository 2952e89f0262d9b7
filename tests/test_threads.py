"""Threads: how many there are and how they wait, without torch, which must find it said."""

import math
import os
import subprocess
import sys

import pytest
import torch
from commands import quick

from msdk import threads
from msdk.errors import MsdkError

SMALL, LARGE = threads.ENOUGH / 2, threads.ENOUGH


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """Eight cores without a quota, and an environment that says nothing; gives the folder of control groups."""
    for name in ("MSDK_THREADS", "OMP_NUM_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "CGROUPS", tmp_path)
    monkeypatch.setattr(threads, "OWN_CGROUP", tmp_path / "own")
    return tmp_path


def write(folder, **files):
    """Files of a control group; `_` in a name stands for the first dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(f"{text}\n")


def test_small_work_has_one_thread_and_large_work_the_cores():
    """That is the rule where nobody asks for anything."""
    assert (threads.count_for(0), threads.count_for(SMALL), threads.count_for(LARGE)) == (1, 1, 8)


def test_affinity_counts_and_not_the_machine(monkeypatch):
    """What `taskset` leaves is what there is; other systems say how many cores they have."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5, 6})
    assert threads.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert threads.cores() == os.cpu_count()


@pytest.mark.parametrize(("limit", "count"), [("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1)])
@pytest.mark.parametrize("place", ["", "a", "a/b"])
def test_a_quota_of_version_2(machine, limit, count, place):
    """Whole cores of the quota, of this group or of one around it, and at least one."""
    (machine / "own").write_text("0::/a/b\n")
    write(machine / "a" / "b", cpu_max="max 100000")
    write(machine / place, cpu_max=limit)
    assert threads.cores() == count


@pytest.mark.parametrize(("limit", "count"), [(-1, 8), (250000, 2), (1000000, 8)])
@pytest.mark.parametrize("place", ["", "docker/1"])
def test_a_quota_of_version_1(machine, limit, count, place):
    """The same; in a container the path may be the host's, and only the top is there."""
    (machine / "own").write_text("4:memory:/m\n2:cpu,cpuacct:/docker/1\n0::/\n")
    write(machine / "cpu" / place, cpu_cfs_quota_us=limit, cpu_cfs_period_us=100000)
    assert threads.cores() == count


def test_without_control_groups_there_is_no_quota():
    """As on other systems."""
    assert threads._quota() == math.inf


def test_processes_of_torchrun_share_the_cores(monkeypatch):
    """Each has its part; that torchrun sets OMP_NUM_THREADS to 1 is not the user's wish."""
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads.count_for(LARGE) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert threads.count_for(LARGE) is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert threads.count_for(LARGE) == 1


def test_the_order_of_what_is_asked_for(monkeypatch):
    """MSDK_THREADS, then OMP_NUM_THREADS, which torch has read itself, then our choice."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads.count_for(SMALL) is None
    assert threads.count_for(LARGE) is None
    monkeypatch.setenv("MSDK_THREADS", "5")
    assert threads.count_for(SMALL) == threads.count_for(LARGE) == 5


@pytest.mark.parametrize("text", ["0", "-1", "many", "", "2.0", "²"])
def test_a_wrong_number_is_told(monkeypatch, capsys, text):
    """In words, by any command, with exit code 2."""
    monkeypatch.setenv("MSDK_THREADS", text)
    with pytest.raises(MsdkError, match=rf"is '{text}', but must be a whole number of at least 1"):
        threads.count_for(0)
    code, _, err = quick(capsys, monkeypatch, "list", "samplers")
    assert code == 2
    assert "MSDK_THREADS, which --threads sets, is" in err


@pytest.mark.parametrize("words", [("--threads", "3", "list"), ("list", "--threads", "3")])
def test_the_option_goes_first(monkeypatch, capsys, words):
    """`--threads` replaces MSDK_THREADS, before or after the command."""
    monkeypatch.setenv("MSDK_THREADS", "many")
    assert quick(capsys, monkeypatch, *words)[0] == 0
    assert threads.count_for(LARGE) == 3


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_wrong_option_is_told(monkeypatch, capsys, number):
    """Likewise."""
    monkeypatch.setenv("MSDK_THREADS", "1")  # so that what the option sets is forgotten after the test
    code, _, err = quick(capsys, monkeypatch, "list", "--threads", number)
    assert code == 2
    assert number in err


def test_torch_is_left_as_it_was(monkeypatch):
    """A block or function has its number of threads, and what follows the number from before, also after an error."""
    before = torch.get_num_threads()
    monkeypatch.setenv("MSDK_THREADS", str(before + 1))
    inside = []

    @threads.threads_for(0)
    def fail():
        inside.append(torch.get_num_threads())
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert inside == [before + 1]
    assert torch.get_num_threads() == before


def test_the_size_of_a_network():
    """The mean weight at every pixel of every image; biases are no weights."""
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3), torch.nn.Conv2d(4, 1, 1))
    assert threads.network_macs(network, (2, 8, 8), 10) == 10 * 64 * (72 + 4) / 2
    assert threads.network_macs(torch.nn.Identity(), (2, 8, 8), 10) == 0


def waiting(code, **environment):
    """What OpenMP is told after some code has run in a fresh process."""
    names = (*threads.WAITING, "GOMP_SPINCOUNT", "KMP_LIBRARY")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = f"{code}\nimport os\nprint([os.environ.get(name) for name in {names[:2]}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **environment})
    return done.stdout.strip()


def test_threads_wait_asleep():
    """`import msdk` tells OpenMP before torch is there."""
    assert waiting("import msdk, torch") == "['passive', '0']"


def test_what_the_user_says_stays():
    """Whoever sets one of the variables means it; and torch that runs already reads none of them."""
    assert waiting("import msdk, torch", OMP_WAIT_POLICY="active") == "['active', None]"
    assert waiting("import msdk", KMP_BLOCKTIME="20") == "[None, '20']"
    assert waiting("import msdk", GOMP_SPINCOUNT="100") == "[None, None]"
    assert waiting("import sys; sys.modules['torch'] = None; import msdk") == "[None, None]"


def test_kernels_are_kept():
    """Those of many sizes of batch, by oneDNN, unless the user has said how many, by either name."""
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import msdk, os; print([os.environ.get(name) for name in {names}])"
    for said, wanted in (({}, "['16384', None]"), ({names[0]: "7"}, "['7', None]"), ({names[1]: "7"}, "[None, '7']")):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **said})
        assert done.stdout.strip() == wanted
