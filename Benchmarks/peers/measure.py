"""What the peer scripts share: options, the jobs, timing, and the JSON line of a result."""

import argparse
import json
import os
import statistics
import time

INPUTS = 784
CLASSES = 10
LEARNING_RATE = 0.01
EPSILON = 1e-5
MOMENTUM = 0.1  # weight of the new value
ADAM = (0.9, 0.999, 1e-8)

# A layer is ("linear", inputs, outputs, bias), ("batchNorm", channels), ("relu",) or ("elu",).
RECIPES = {
    "mnist-bn": [
        ("linear", INPUTS, 32, False), ("batchNorm", 32), ("relu",),
        ("linear", 32, 32, False), ("batchNorm", 32), ("relu",),
        ("linear", 32, CLASSES, True),
    ],
    "hands-on": [
        ("batchNorm", INPUTS),
        ("linear", INPUTS, 300, False), ("batchNorm", 300), ("elu",),
        ("linear", 300, 100, False), ("batchNorm", 100), ("elu",),
        ("linear", 100, CLASSES, True),
    ],
}  # fmt: skip


def options(description, forms):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    parser.add_argument("--batch-size", action="append", type=int, help="default: 32 and 256")
    parser.add_argument("--form", action="append", choices=forms, help="default: all but compile")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores to use; default: all")
    parser.add_argument("--steps", type=int, default=100, help="steps in one repeat")
    parser.add_argument("--repeats", type=int, default=7)
    chosen = parser.parse_args()
    chosen.recipe = chosen.recipe or list(RECIPES)
    chosen.batch_size = chosen.batch_size or [32, 256]
    chosen.form = chosen.form or [f for f in forms if f != "compile"]
    return chosen


def pin(threads):
    """Keeps the process on its first `threads` cores. Call it before a framework makes its thread pool."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= threads <= len(cores):
        raise SystemExit(f"--threads: expected 1 to {len(cores)}, got {threads}")
    os.sched_setaffinity(0, cores[:threads])
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def run(peer, jobs, chosen):
    """Times jobs, each a dict of labels and a function that makes `chosen.steps` steps and returns when they are done.

    The repeats of all jobs are interleaved, so that a busy moment of the machine does not fall on one of them.
    """
    times = [[] for _ in jobs]
    for _, work in jobs:
        work()
    for _ in range(chosen.repeats):
        for (_, work), seconds in zip(jobs, times):
            start = time.perf_counter()
            work()
            seconds.append((time.perf_counter() - start) * 1e6 / chosen.steps)
    for (labels, _), microseconds in zip(jobs, times):
        line = {
            "peer": peer, **labels, "microseconds": round(min(microseconds), 1),
            "median": round(statistics.median(microseconds), 1), "threads": chosen.threads,
        }  # fmt: skip
        print(json.dumps(line), flush=True)
