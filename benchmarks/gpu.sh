#!/bin/sh
# Everything about training that needs a GPU, on one of them, in less than 8 minutes: gradients of two processes (as two
# streams), waiting, bf16, fp16, resuming, compile, throughput, memory against the budget's estimate, and the loop beside
# others. Writes OUT/checks.jsonl, OUT/training.json and OUT/gpu.md, and fails where a check does.
#
#   benchmarks/gpu.sh                 on cuda, into gpu-results/
#   DATA=cifar10-train.zip benchmarks/gpu.sh    6 minutes more: unified and multistage on CIFAR-10, gpu_pair.py
#   DEVICE=cpu benchmarks/gpu.sh      tiny, on the CPU: shows that the script runs, and nothing of GPUs
#
# It has been run with DEVICE=cpu alone so far; nobody has run it on a GPU yet.
set -u
cd "$(dirname "$0")/.." || exit 2
DEVICE=${DEVICE:-cuda}
OUT=${OUT:-gpu-results}
PYTHON=${PYTHON:-python}
CHECKS=${CHECKS:-$("$PYTHON" benchmarks/gpu_checks.py names)} || exit 2
mkdir -p "$OUT" || exit 2
: > "$OUT/checks.jsonl"
failed=0
end=$(($(date +%s) + 470))
left() { # seconds of at most so many that are left of all; timeout takes 0 for no limit
    seconds=$((end - $(date +%s)))
    [ "$seconds" -lt 1 ] && seconds=1
    [ "$seconds" -gt "$1" ] && seconds=$1
    echo "$seconds"
}
for check in $CHECKS; do
    begun=$(date +%s)
    # A check that crashes or hangs costs only itself.
    if ! timeout "$(left 75)" "$PYTHON" benchmarks/gpu_checks.py "$check" --device "$DEVICE" > "$OUT/line" 2> "$OUT/$check.log"; then
        failed=1
        if [ ! -s "$OUT/line" ]; then
            printf '{"check": "%s", "found": "failed: see %s", "wanted": "an answer in time", "passed": false, "seconds": %s}\n' \
                "$check" "$OUT/$check.log" "$(($(date +%s) - begun))" > "$OUT/line"
        fi
    fi
    tail -n 1 "$OUT/line" >> "$OUT/checks.jsonl"
    rm -f "$OUT/line"
done
if [ "${BENCH:-1}" = 1 ]; then
    runs=2
    [ "$DEVICE" = cpu ] && runs=1
    timeout "$(left 150)" "$PYTHON" benchmarks/bench_training.py --runs $runs --device "$DEVICE" \
        --only overhead --only data --only edm --only diffusers > "$OUT/training.json" 2> "$OUT/training.log" || failed=1
fi
if [ -n "${DATA:-}" ]; then
    "$PYTHON" benchmarks/gpu_pair.py --data "$DATA" --device "$DEVICE" --seconds "${SECONDS_OF_PAIR:-360}" > "$OUT/pair.json" || failed=1
fi
"$PYTHON" benchmarks/gpu_checks.py table "$OUT/checks.jsonl" | tee "$OUT/gpu.md" || failed=1
exit $failed
