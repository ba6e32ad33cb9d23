"""What the peer scripts share: options, the jobs, timing, and the JSON line of a result."""

import argparse
import json
import os
import statistics
import sys
import time

INPUTS = 784
CLASSES = 10
SCALE = 1 / 255  # of a stored 8-bit pixel
LEARNING_RATE = 0.01
EPSILON = 1e-5
MOMENTUM = 0.1  # weight of the new value
ADAM = (0.9, 0.999, 1e-8)
TEST_IMAGES = 10_000  # of one evaluation

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


def folded(recipe):
    """The network once each batch norm is folded into the linear layer beside it."""
    layers = [layer for layer in RECIPES[recipe] if layer[0] != "batchNorm"]
    return [("linear", layer[1], layer[2], True) if layer[0] == "linear" else layer for layer in layers]


def options(description, forms):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", action="append", choices=["step", "evaluate"], help="default: step")
    parser.add_argument("--recipe", action="append", choices=RECIPES, help="default: all")
    parser.add_argument("--batch-size", action="append", type=int, help="default: 32 and 256")
    parser.add_argument("--form", action="append", choices=forms, help="default: all but compile")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores to use; default: all")
    parser.add_argument("--steps", type=int, default=100, help="steps in one repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--serve", action="store_true", help="run jobs as standard input names them")
    chosen = parser.parse_args()
    chosen.work = chosen.work or ["step"]
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


def run(peer, make, chosen):
    """Times the chosen jobs. `make(work, form, recipe, batch_size)` gives a function that does `chosen.steps` steps, or
    one evaluation, and returns when it is done.

    The repeats of all jobs are interleaved, so that a busy moment of the machine does not fall on one of them.
    """
    if chosen.serve:
        return serve(peer, make, chosen)
    labels = [
        {"work": work, "form": form, "recipe": recipe, "batchSize": size}
        for work in chosen.work for recipe in chosen.recipe for size in chosen.batch_size for form in chosen.form
    ]  # fmt: skip
    jobs = [make(*label.values()) for label in labels]
    times = [[] for _ in jobs]
    for work in jobs:
        work()
    for _ in range(chosen.repeats):
        for label, work, seconds in zip(labels, jobs, times):
            seconds.append(microseconds(work, label, chosen))
    for label, values in zip(labels, times):
        line = {
            "peer": peer, **label, "microseconds": round(min(values), 1),
            "median": round(statistics.median(values), 1), "threads": chosen.threads,
        }  # fmt: skip
        print(json.dumps(line), flush=True)


def serve(peer, make, chosen):
    """Says who it is, then answers each line `{"work", "form", "recipe", "batchSize"}` with the job's microseconds.

    A job is made, and done once without being timed, where it is named first. So `keel bench --compare` takes turns with
    several peers.
    """
    print(json.dumps({"peer": peer, "threads": chosen.threads}), flush=True)
    jobs = {}
    for line in sys.stdin:
        label = json.loads(line)
        key = (label["work"], label["form"], label["recipe"], label["batchSize"])
        if key not in jobs:
            jobs[key] = make(*key)
            jobs[key]()
        print(json.dumps({"microseconds": microseconds(jobs[key], label, chosen)}), flush=True)


def microseconds(work, label, chosen):
    """Of a step, or of a whole evaluation."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e6 / (chosen.steps if label["work"] == "step" else 1)
