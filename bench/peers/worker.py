"""A peer's side of bench/interleave.mjs, as bench/worker.mjs is ours: times one piece of work again and again, as JSON lines.

A worker is anything with step() -> a number by which two sides are compared. Imports nothing large: what a process has in
memory is its framework's.
"""
import json
import math
import sys
import time


def rss_peak_mb():
    """VmHWM: the most memory this process ever had resident, in MiB."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM"))


def run(worker, count):
    """Does `count` steps; the time of a step ends when its number is known."""
    seconds, cpu_seconds, value = [], [], None
    for _ in range(count):
        start, cpu_start = time.perf_counter(), time.process_time()
        value = worker.step()
        seconds.append(time.perf_counter() - start)
        cpu_seconds.append(time.process_time() - cpu_start)
    # JSON has no NaN: a result that is none is told as text.
    loss = value if value is None or math.isfinite(value) else str(value)
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss, "rss_peak_mb": rss_peak_mb()}


def serve(worker, about):
    """Answers each line `step N` of standard input with N timings."""
    print(json.dumps({"ready": True, **about}), flush=True)
    for line in sys.stdin:
        command, _, count = line.strip().partition(" ")
        if command != "step" or not count.isdigit():
            sys.exit(f"stdin: expected `step N`, got {line.strip()!r}")
        print(json.dumps(run(worker, int(count))), flush=True)


def time_or_serve(worker, about, serving):
    """Serves, or warms up, times five steps and prints them."""
    if serving:
        return serve(worker, about)
    run(worker, 2)
    print(json.dumps({**about, **run(worker, 5)}))
