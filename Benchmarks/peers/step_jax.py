#!/usr/bin/env python3
"""Time of training steps and of evaluation in JAX on the CPU; a step has Adam and running statistics.

`jit` calls one compiled step for each batch and waits once at the end; `scan` compiles all steps into one call.
"""

import measure

FORMS = ["jit", "scan"]
chosen = measure.options(__doc__.splitlines()[0], FORMS)
measure.pin(chosen.threads)

import jax  # noqa: E402  after pin: XLA sizes its thread pool by the cores it may use
import jax.numpy as jnp  # noqa: E402


def initial(layers, key):
    """One entry a layer: trained values, and running statistics (mean, variance)."""
    trained, running = [], []
    for kind, *sizes in layers:
        values, statistics = {}, None
        if kind == "linear":
            inputs, outputs, bias = sizes
            key, own = jax.random.split(key)
            values["weight"] = jax.random.normal(own, (inputs, outputs)) * jnp.sqrt(2 / inputs)
            if bias:
                values["bias"] = jnp.zeros(outputs)
        elif kind == "batchNorm":
            values = {"scale": jnp.ones(sizes[0]), "shift": jnp.zeros(sizes[0])}
            statistics = (jnp.zeros(sizes[0]), jnp.ones(sizes[0]))
        trained.append(values)
        running.append(statistics)
    return trained, running


def forward(layers, trained, running, x):
    renewed = []
    for (kind, *_), values, statistics in zip(layers, trained, running):
        if kind == "linear":
            x = x @ values["weight"]
            if "bias" in values:
                x = x + values["bias"]
        elif kind == "batchNorm":
            mean, variance = x.mean(0), x.var(0)
            x = (x - mean) * jax.lax.rsqrt(variance + measure.EPSILON) * values["scale"] + values["shift"]
            rows, new = x.shape[0], measure.MOMENTUM
            old_mean, old_variance = statistics
            statistics = (
                (1 - new) * old_mean + new * mean,
                (1 - new) * old_variance + new * variance * rows / (rows - 1),
            )
        else:
            x = jax.nn.relu(x) if kind == "relu" else jax.nn.elu(x)
        renewed.append(statistics)
    return x, renewed


def losses_of(scores, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1)


def noise(count, key):
    """Images as they are stored, and labels."""
    images = jax.random.randint(key, (count, measure.INPUTS), 0, 256).astype(jnp.uint8)
    return images, jax.random.randint(key, (count,), 0, measure.CLASSES)


def make_step(form, recipe, batch_size):
    first, second, epsilon = measure.ADAM
    layers = measure.RECIPES[recipe]

    def loss_of(trained, running, x, y):
        scores, renewed = forward(layers, trained, running, x)
        return losses_of(scores, y).mean(), renewed

    def step(state, samples, images, labels):
        trained, running, m, v, count = state
        x, y = images[samples].astype(jnp.float32) * measure.SCALE, labels[samples]
        (loss, running), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained, running, x, y)
        count = count + 1
        m = jax.tree.map(lambda m, g: first * m + (1 - first) * g, m, gradient)
        v = jax.tree.map(lambda v, g: second * v + (1 - second) * g * g, v, gradient)
        rate = measure.LEARNING_RATE / (1 - first**count)
        root = jnp.sqrt(1 - second**count)
        trained = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + epsilon), trained, m, v)
        return (trained, running, m, v, count), loss

    key = jax.random.key(1)
    trained, running = initial(layers, key)
    zeros = jax.tree.map(jnp.zeros_like, trained)
    state = (trained, running, zeros, jax.tree.map(jnp.zeros_like, trained), jnp.zeros((), jnp.float32))
    images, labels = noise(chosen.steps * batch_size, key)
    order = jax.random.permutation(key, chosen.steps * batch_size).reshape(chosen.steps, batch_size)
    if form == "scan":
        whole = jax.jit(
            lambda state, order, images, labels: jax.lax.scan(
                lambda state, samples: step(state, samples, images, labels), state, order
            ),
            donate_argnums=0,
        )

        def work():
            nonlocal state
            state, losses = whole(state, order, images, labels)
            jax.block_until_ready((state, losses))
    else:
        single = jax.jit(step, donate_argnums=0)
        batches = list(order)

        def work():
            nonlocal state
            for samples in batches:
                state, loss = single(state, samples, images, labels)
            jax.block_until_ready((state, loss))

    return work


def make_evaluation(form, recipe, batch_size):
    layers = measure.folded(recipe)
    key = jax.random.key(1)
    trained, running = initial(layers, key)
    count = measure.TEST_IMAGES
    images, labels = noise(count, key)

    def figures(trained, x, y):
        scores, _ = forward(layers, trained, running, x.astype(jnp.float32) * measure.SCALE)
        return jnp.stack([losses_of(scores, y).sum(), (scores.argmax(1) == y).sum().astype(jnp.float32)])

    full = count // batch_size * batch_size
    rest = (images[full:], labels[full:]) if full < count else None
    if form == "scan":
        batches = (images[:full].reshape(-1, batch_size, measure.INPUTS), labels[:full].reshape(-1, batch_size))

        @jax.jit
        def whole(trained, batches, rest):
            sums = jax.lax.map(lambda batch: figures(trained, *batch), batches).sum(0)
            return sums if rest is None else sums + figures(trained, *rest)

        return lambda: jax.block_until_ready(whole(trained, batches, rest))

    single = jax.jit(lambda sums, trained, x, y: sums + figures(trained, x, y))
    pairs = [(images[i : i + batch_size], labels[i : i + batch_size]) for i in range(0, count, batch_size)]
    zeros = jnp.zeros(2)

    def work():
        sums = zeros
        for x, y in pairs:
            sums = single(sums, trained, x, y)
        return jax.block_until_ready(sums)

    return work


def make(work, form, recipe, batch_size):
    return (make_step if work == "step" else make_evaluation)(form, recipe, batch_size)


measure.run(f"jax {jax.__version__}", make, chosen)
