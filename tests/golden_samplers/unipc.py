"""The official UniPC program."""

from golden_samplers import Settings, Setup
from golden_samplers.dpm import GRIDS, process
from msdk.samplers.unipc import UniPC


def setup(case: Settings) -> Setup:
    schedule, end, same = process(case["sched"])
    variant = case.one("variant", {"bh1": "bh1", "bh2": "bh2", "vary_coeff": "vary"})
    sampler = UniPC(
        t_end=end,
        final_denoise=case.flag("dtz"),
        grid=case.one("skip", GRIDS),
        order=case.number("order"),
        variant=variant,
        algorithm=case.one("alg", {"data_prediction": "dpmsolver++", "noise_prediction": "dpmsolver"}),
        lower_order_final=case.flag("lof"),
        as_published=variant == "vary",
    )
    return Setup(schedule=schedule, sampler=sampler, steps=case.number("steps"), **same)
