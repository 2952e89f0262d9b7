"""What `recipe check` calls good never ends in a traceback: a sample of benchmarks/bench_attack.py, which tries all."""

import importlib.util
import itertools
import random
import sys
from pathlib import Path

import pytest

FILE = Path("benchmarks/bench_attack.py")
SPEC = importlib.util.spec_from_file_location("bench_attack", FILE)
attack = importlib.util.module_from_spec(SPEC)
sys.modules["bench_attack"] = attack
SPEC.loader.exec_module(attack)

CASES = [case for case in attack.cases() if case[0] != "clusterings gradient"]  # which trains a network for each


@pytest.mark.parametrize("kind", sorted({case.split()[0] for case, _ in CASES}))
def test_what_is_called_good_runs(kind):
    """Edge values of drawn fields are refused in words, or two steps of training and the sampling after them work."""
    drawn, faults = random.Random(16), []
    some = [case for case in CASES if case[0].split()[0] == kind]
    for case, data in drawn.sample(some, min(3, len(some))):
        every = attack.tries(case, data)
        for what, changed in drawn.sample(every, min(7, len(every))):
            found = attack.outcome(case, what, changed)
            if "fault" in found.kind:
                faults.append(found)
    assert faults == []


def test_the_attack_reaches_every_kind_of_part():
    """Its cases name every part of msdk's that a small recipe can have without a run, and are good themselves."""
    named = {case.partition(" ")[2] for case, _ in CASES}
    for kind in ("schedules", "parameterizations", "weightings", "samplers", "objectives", "optimizers", "wrappers"):
        assert set(attack.registries()[kind].own_names()) <= named | set(attack.RUNS)
    assert all(itertools.islice(attack.tries(*CASES[0]), 2))
