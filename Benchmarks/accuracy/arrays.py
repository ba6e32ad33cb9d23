"""Files of named arrays (safetensors), and the arrays that every system gets."""

import json

import numpy

EPSILON = 1e-5
MOMENTUM = 0.1  # weight of the new value

SPREADS = {"0/1": (0, 1), "100/1": (100, 1), "1e4/1": (1e4, 1), "1e4/0.01": (1e4, 0.01), "1e6/1": (1e6, 1)}
HARDEST = "1e6/1"
# layout, shape, axis of the channels, offset / deviation
SETTINGS = [
    ("NC", (256, 64), 1, list(SPREADS)),
    ("NCHW", (16, 64, 14, 14), 1, list(SPREADS)),
    ("NHWC", (16, 14, 14, 64), 3, list(SPREADS)),
    # More values per channel: a plain float sum goes wrong with their number.
    ("large NC", (16384, 64), 1, ["1e4/1", HARDEST]),
    ("large NCHW", (16, 64, 32, 32), 1, ["1e4/1", HARDEST]),
    ("large NHWC", (16, 32, 32, 64), 3, ["1e4/1", HARDEST]),
]
CASES = [(f"{layout} {spread}", layout, spread) for layout, _, _, spreads in SETTINGS for spread in spreads]
RESULTS = ["y", "mean", "variance", "dx", "dscale", "dshift", "runningMean", "runningVariance"]


def read(path):
    """The arrays of a file by name, and its metadata."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        data = file.read()
    types = {"F32": numpy.float32, "F64": numpy.float64}
    metadata = header.pop("__metadata__", {})
    return {
        name: numpy.frombuffer(data[entry["data_offsets"][0] : entry["data_offsets"][1]], types[entry["dtype"]])
        .reshape(entry["shape"])
        .copy()
        for name, entry in header.items()
    }, metadata


def write(path, arrays, metadata):
    header, blocks, offset = {"__metadata__": metadata}, [], 0
    types = {"float32": "F32", "float64": "F64"}
    for name, array in arrays.items():
        block = array.tobytes()
        header[name] = {
            "dtype": types[array.dtype.name], "shape": list(array.shape), "data_offsets": [offset, offset + len(block)]
        }  # fmt: skip
        blocks.append(block)
        offset += len(block)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + b"".join(blocks))


def cases(seed):
    """Arrays and metadata of all cases, as float32. NCHW and NHWC hold the same values."""
    arrays, metadata = {}, {}
    for layout, shape, axis, spreads in SETTINGS:
        channels = shape[axis]
        canonical = (shape[0], channels, *shape[1:-1]) if axis == len(shape) - 1 else shape
        for spread in spreads:
            offset, deviation = SPREADS[spread]
            generator = numpy.random.default_rng(seed)
            drawn = {
                "x": offset + deviation * generator.standard_normal(canonical),
                "scale": generator.uniform(0.5, 1.5, channels),
                "shift": generator.standard_normal(channels),
                "dy": generator.standard_normal(canonical),
            }
            metadata[f"{layout} {spread}.axis"] = str(axis)
            for name, array in drawn.items():
                moved = numpy.moveaxis(array, 1, axis) if array.ndim > 1 else array
                arrays[f"{layout} {spread}.{name}"] = moved.astype(numpy.float32)
    return arrays, metadata


def case(arrays, metadata, name):
    """x, scale, shift, dy, and the axis of the channels."""
    return *(arrays[f"{name}.{key}"] for key in ("x", "scale", "shift", "dy")), int(metadata[f"{name}.axis"])


def names(metadata):
    return [key.removesuffix(".axis") for key in metadata if key.endswith(".axis")]
