"""The official UniPC program."""

from golden_samplers import Json, Setup
from golden_samplers.dpm import GRIDS, process
from msdk.samplers.unipc import UniPC


def setup(case: Json) -> Setup | str:
    schedule, end, same = process(case["sched"])
    varies = case["variant"] == "vary_coeff"
    sampler = UniPC(
        t_end=end,
        final_denoise=bool(case["dtz"]),
        grid=GRIDS[case["skip"]],
        order=case["order"],
        variant="vary" if varies else case["variant"],
        algorithm="dpmsolver++" if case["alg"] == "data_prediction" else "dpmsolver",
        lower_order_final=bool(case["lof"]),
        as_published=varies,
    )
    return Setup(schedule=schedule, sampler=sampler, steps=case["steps"], **same)
