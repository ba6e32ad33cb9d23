"""One peer's batch normalization of every case: python peers.py <peer> <arrays.safetensors> <results.safetensors>

Training forward, backward for the given dy, and one update of running statistics that start at 0 and 1, all in
float32 on the CPU. Exit code 3: the peer is not installed.
"""

import os
import sys

import arrays

NOT_INSTALLED = 3


def pytorch():
    """torch.nn.BatchNorm1d and 2d; NHWC is the memory format channels_last."""
    import torch

    def run(x, scale, shift, dy, axis):
        def view(array):  # channels on axis 1, memory as it is
            tensor = torch.from_numpy(array)
            return tensor.movedim(axis, 1) if array.ndim == 4 else tensor

        def back(tensor):
            return tensor.detach().movedim(1, axis).numpy() if tensor.ndim == 4 else tensor.detach().numpy()

        def layer(momentum):
            kind = torch.nn.BatchNorm2d if x.ndim == 4 else torch.nn.BatchNorm1d
            made = kind(len(scale), arrays.EPSILON, momentum).train()
            with torch.no_grad():
                made.weight.copy_(torch.from_numpy(scale))
                made.bias.copy_(torch.from_numpy(shift))
            return made

        # With momentum 1 the running statistics are those of the batch, the variance unbiased.
        batch = layer(1.0)
        batch(view(x))
        m = x.size // len(scale)
        given = view(x).requires_grad_()
        made = layer(arrays.MOMENTUM)
        y = made(given)
        y.backward(view(dy))
        return {
            "y": back(y), "mean": batch.running_mean.numpy(),
            "variance": batch.running_var.double().numpy() * (m - 1) / m,
            "dx": back(given.grad), "dscale": made.weight.grad.numpy(), "dshift": made.bias.grad.numpy(),
            "runningMean": made.running_mean.numpy(), "runningVariance": made.running_var.numpy(),
        }  # fmt: skip

    return f"PyTorch {torch.__version__.split('+')[0]}", "unbiased", run


def keras():
    """keras.layers.BatchNormalization on TensorFlow, with the axis of the layout."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow

    def run(x, scale, shift, dy, axis):
        def layer(old_weight):
            made = keras.layers.BatchNormalization(axis=axis, momentum=old_weight, epsilon=arrays.EPSILON)
            made.build(x.shape)
            made.gamma.assign(scale)
            made.beta.assign(shift)
            return made

        # With weight 0 of the old values the moving statistics are those of the batch.
        batch = layer(0.0)
        batch(x, training=True)
        made = layer(1 - arrays.MOMENTUM)
        given = tensorflow.convert_to_tensor(x)
        with tensorflow.GradientTape() as tape:
            tape.watch(given)
            y = made(given, training=True)
        dx, dscale, dshift = tape.gradient(y, [given, made.gamma.value, made.beta.value], output_gradients=dy)
        return {
            "y": y.numpy(), "mean": batch.moving_mean.numpy(), "variance": batch.moving_variance.numpy(),
            "dx": dx.numpy(), "dscale": dscale.numpy(), "dshift": dshift.numpy(),
            "runningMean": made.moving_mean.numpy(), "runningVariance": made.moving_variance.numpy(),
        }  # fmt: skip

    return f"Keras {keras.__version__} (TF {tensorflow.__version__})", "biased", run


def with_jax(moments_of):
    """The formula in JAX, jitted; gradients by jax.vjp."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    import jax
    import jax.numpy as jnp
    import numpy

    def forward(x, scale, shift, axis):
        axes = tuple(a for a in range(x.ndim) if a != axis)
        along = [-1 if a == axis else 1 for a in range(x.ndim)]
        mean, variance = moments_of(jnp, x, axes)
        gain = jax.lax.rsqrt(variance + arrays.EPSILON) * scale
        return (x - mean.reshape(along)) * gain.reshape(along) + shift.reshape(along), (mean, variance)

    @jax.jit
    def old_and_new(mean, variance):
        new = arrays.MOMENTUM
        return (1 - new) * jnp.zeros_like(mean) + new * mean, (1 - new) * jnp.ones_like(variance) + new * variance

    def run(x, scale, shift, dy, axis):
        @jax.jit
        def step(x, scale, shift, dy):
            y, gradients, moments = jax.vjp(lambda *a: forward(*a, axis), x, scale, shift, has_aux=True)
            return y, gradients(dy), moments

        y, (dx, dscale, dshift), (mean, variance) = step(x, scale, shift, dy)
        running_mean, running_variance = old_and_new(mean, variance)
        values = [y, mean, variance, dx, dscale, dshift, running_mean, running_variance]
        return {key: numpy.asarray(value) for key, value in zip(arrays.RESULTS, values)}

    return jax.__version__, "biased", run


def jax():
    """jnp.mean and jnp.var."""
    version, convention, run = with_jax(lambda jnp, x, axes: (jnp.mean(x, axes), jnp.var(x, axes)))
    return f"JAX {version} `var`", convention, run


def flax():
    """Flax's default (use_fast_variance): E[x²] − E[x]², not below 0."""

    def moments(jnp, x, axes):
        mean = jnp.mean(x, axes)
        return mean, jnp.maximum(0, jnp.mean(x * x, axes) - mean * mean)

    version, convention, run = with_jax(moments)
    return f"Flax formula (JAX {version})", convention, run


PEERS = {"PyTorch": pytorch, "Keras": keras, "JAX": jax, "Flax formula": flax}

if __name__ == "__main__":
    peer, source, target = sys.argv[1:]
    try:
        name, convention, run = PEERS[peer]()
    except ImportError as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_INSTALLED)
    given, metadata = arrays.read(source)
    results = {}
    for case in arrays.names(metadata):
        for key, array in run(*arrays.case(given, metadata, case)).items():
            results[f"{case}.{key}"] = array
    arrays.write(target, results, {"system": name, "runningVariance": convention})
