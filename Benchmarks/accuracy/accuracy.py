"""Prints how far batch normalization in float32 is from float64, for Keel and its peers, as markdown.

The error of a tensor is max|got - expected| / max|expected|; the expectation is computed in float64 from the same
float32 arrays. `measure` builds Keel's side and calls this. Exit code 1: Keel misses a bound, or a side failed.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy

import arrays
import peers

HERE = Path(__file__).parent
# What Keel must reach with every tensor: the largest error for each offset / deviation.
BOUNDS = {"0/1": 2e-7, "100/1": 5e-7, "1e4/1": 5e-7, "1e4/0.01": 5e-6, "1e6/1": 1e-4}
TITLES = {
    "y": "y", "mean": "batch mean μ", "variance": "batch variance σ² (biased)", "dx": "dx", "dscale": "dγ",
    "dshift": "dβ", "runningMean": "running mean after one step", "runningVariance": "running variance after one step",
}  # fmt: skip


def options():
    parser = argparse.ArgumentParser(prog="measure", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", action="append", help="as KEEL_DEVICE; may be given several times")
    parser.add_argument("--variant", action="append", default=[], metavar="FAMILY=VARIANT",
        help="kernels to use, for example batchNormForward=naive")  # fmt: skip
    parser.add_argument("--peer", action="append", choices=peers.PEERS, help="default: all")
    parser.add_argument("--no-peers", action="store_true", help="Keel alone")
    parser.add_argument("--python", action="append", metavar="PATH",
        help="where peers are looked for; may be given several times (default: this Python)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keel", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    chosen.peer = [] if chosen.no_peers else chosen.peer or list(peers.PEERS)
    chosen.python = chosen.python or [sys.executable]
    return chosen


def expected(given, metadata):
    """All results of all cases in float64; the running variance in both conventions."""
    results = {}
    for name in arrays.names(metadata):
        x, scale, shift, dy, axis = arrays.case(given, metadata, name)
        x, dy = (numpy.moveaxis(a, axis, -1).reshape(-1, len(scale)).astype(numpy.float64) for a in (x, dy))
        m = len(x)
        mean = x.mean(0)
        mean += (x - mean).mean(0)
        variance = ((x - mean) ** 2).mean(0)
        rstd = 1 / numpy.sqrt(variance + arrays.EPSILON)
        xhat = (x - mean) * rstd
        dshift, dscale = dy.sum(0), (dy * xhat).sum(0)
        new = arrays.MOMENTUM
        results[name] = {
            "y": scale * xhat + shift, "mean": mean, "variance": variance,
            "dx": scale * rstd * (dy - dshift / m - xhat * dscale / m), "dscale": dscale, "dshift": dshift,
            "runningMean": new * mean,
            "runningVariance": {
                "biased": 1 - new + new * variance, "unbiased": 1 - new + new * variance * m / (m - 1),
            },
        }  # fmt: skip
    return results


class System:
    """A column: a system that was asked, and what came back."""

    def __init__(self, name):
        self.name, self.results, self.note, self.failed = name, None, "not installed", False

    def read(self, path, metadata, convention):
        self.results, found = arrays.read(path)
        self.note = None
        self.axes = {name: int(metadata[f"{name}.axis"]) for name in arrays.names(metadata)}
        self.convention = found[convention]
        return found

    def fail(self, message):
        self.note, self.failed = "failed", True
        print(f"{self.name} failed:\n{message.strip()}\n", file=sys.stderr)

    def got(self, case, key):
        array = self.results.get(f"{case}.{key}")
        if array is None:
            return None
        if array.ndim > 1:
            array = numpy.moveaxis(array, self.axes[case], -1).reshape(-1, array.shape[self.axes[case]])
        return array.astype(numpy.float64)

    def error(self, reference, case, key):
        """NaN where a result is not finite; None where there is none."""
        got, want = self.got(case, key) if self.results else None, reference[case][key]
        if got is None:
            return None
        if isinstance(want, dict):
            want = want[self.convention]
        return numpy.max(numpy.abs(got - want)) / numpy.max(numpy.abs(want))

    def variance_ratio(self, reference, case):
        got = self.got(case, "variance") if self.results else None
        return None if got is None else got / reference[case]["variance"]


def ask_peer(name, pythons, given, folder, metadata):
    system, target = System(name), folder / "peer.safetensors"
    for python in pythons:
        run = subprocess.run([python, HERE / "peers.py", name, given, target], capture_output=True, text=True)
        if run.returncode == 0:
            system.name = system.read(target, metadata, "runningVariance")["system"]
        elif run.returncode != peers.NOT_INSTALLED:
            system.fail(run.stderr)
        if run.returncode != peers.NOT_INSTALLED:
            break
    return system


def ask_keel(device, chosen, given, folder, metadata):
    system, target = System(f"Keel {device}" if device else "Keel"), folder / "keel.safetensors"
    if not chosen.keel:
        system.note = "not built"
        return system
    environment = os.environ | ({"KEEL_DEVICE": device} if device else {})
    run = subprocess.run([chosen.keel, given, target, *chosen.variant], capture_output=True, text=True, env=environment)
    if run.returncode != 0:
        system.fail(run.stderr)
        return system
    found = system.read(target, metadata, "runningVariance")
    print(f"- {system.name}: {found['device']}")
    for layout, _, _, spreads in arrays.SETTINGS:
        print(f"  - {layout}: {found[f'{layout} {spreads[0]}.variants']}")
    return system


def short(value):
    if value is None:
        return "–"
    if not numpy.isfinite(value):
        return "not finite"
    if value == 0 or value >= 1:
        return f"{value:.4g}"
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def ratio(values):
    if values is None:
        return "–"
    if not numpy.all(numpy.isfinite(values)):
        return "not finite"
    low, high = values.min(), values.max()
    # Close to 1 the distance says more than the digits.
    if numpy.max(numpy.abs(values - 1)) < 1e-3:
        return f"1 ± {short(numpy.max(numpy.abs(values - 1)))}"
    return f"{low:.4g} … {high:.4g}"


def table(title, systems, rows, first="offset / std"):
    """Rows: a label, a function of the system that gives the cell, and the bound."""
    print(f"\n{title}\n")
    print(f"| {first} | " + " | ".join(s.name for s in systems) + " | bound for Keel |")
    print("|" + "---|" * (len(systems) + 2))
    for label, cell, bound in rows:
        print(f"| {label} | " + " | ".join(s.note or cell(s) for s in systems) + f" | {bound} |")


def report(systems, reference):
    rows = [
        (spread, lambda s, case=f"NC {spread}": short(s.error(reference, case, "y")), short(BOUNDS[spread]))
        for spread in arrays.SPREADS if spread != arrays.HARDEST
    ]  # fmt: skip
    rows += [
        (f"{spread}, σ² where 1 is right, {layout}",
            lambda s, case=case: ratio(s.variance_ratio(reference, case)), f"1 ± {short(BOUNDS[spread])}")
        for case, layout, spread in arrays.CASES if spread == arrays.HARDEST
    ]  # fmt: skip
    table("## Training-mode y, 256×64 (NC), error against float64", systems, rows)

    for key, title in TITLES.items():
        rows = [
            (case, lambda s, case=case, key=key: short(s.error(reference, case, key)), short(BOUNDS[spread]))
            for case, _, spread in arrays.CASES
        ]
        table(f"## {title}", systems, rows, "layout, offset / std")


def misses(keel, reference):
    for case, _, spread in arrays.CASES:
        for key in arrays.RESULTS:
            error = keel.error(reference, case, key)
            if error is None or not error <= BOUNDS[spread]:
                yield f"{keel.name}: {key}, {case}: {short(error)}, bound {short(BOUNDS[spread])}"


def main():
    chosen = options()
    given, metadata = arrays.cases(chosen.seed)
    reference = expected(given, metadata)
    shapes = ", ".join("×".join(map(str, shape)) + f" ({layout})" for layout, shape, *_ in arrays.SETTINGS)
    print(f"Normal noise plus an offset, float32, {shapes}, seed {chosen.seed}, ε {arrays.EPSILON:g}.")
    print("Error of a tensor: max|got − expected| / max|expected|, expected in float64 from the same arrays.\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "arrays.safetensors"
        arrays.write(source, given, metadata)
        keel = [ask_keel(device, chosen, source, folder, metadata) for device in chosen.device or [None]]
        systems = [ask_peer(peer, chosen.python, source, folder, metadata) for peer in chosen.peer] + keel
    report(systems, reference)

    missed = [line for system in keel if system.results for line in misses(system, reference)]
    asked = [system.name for system in keel if system.results]
    if asked:
        print(f"\nKeel's bounds ({', '.join(asked)}): " + ("all met." if not missed else f"{len(missed)} missed."))
    for line in missed:
        print(f"- {line}")
    if missed or any(system.note == "not built" or system.failed for system in systems):
        sys.exit(1)


main()
