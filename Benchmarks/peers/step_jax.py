#!/usr/bin/env python3
"""Time of one training step in JAX on the CPU: forward, backward, Adam, running statistics.

`jit` calls one compiled step for each batch and waits once at the end; `scan` compiles all steps into one call.
"""

import measure

FORMS = ["jit", "scan"]
chosen = measure.options(__doc__.splitlines()[0], FORMS)
measure.pin(chosen.threads)

import jax  # noqa: E402  after pin: XLA sizes its thread pool by the cores it may use
import jax.numpy as jnp  # noqa: E402


def initial(recipe, key):
    """One entry a layer: trained values, and running statistics (mean, variance)."""
    trained, running = [], []
    for kind, *sizes in measure.RECIPES[recipe]:
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


def forward(recipe, trained, running, x):
    renewed = []
    for (kind, *_), values, statistics in zip(measure.RECIPES[recipe], trained, running):
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


def make_step(recipe):
    first, second, epsilon = measure.ADAM

    def loss_of(trained, running, x, y):
        scores, renewed = forward(recipe, trained, running, x)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1)
        return losses.mean(), renewed

    def step(state, batch):
        trained, running, m, v, count = state
        (loss, running), gradient = jax.value_and_grad(loss_of, has_aux=True)(trained, running, *batch)
        count = count + 1
        m = jax.tree.map(lambda m, g: first * m + (1 - first) * g, m, gradient)
        v = jax.tree.map(lambda v, g: second * v + (1 - second) * g * g, v, gradient)
        rate = measure.LEARNING_RATE / (1 - first**count)
        root = jnp.sqrt(1 - second**count)
        trained = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + epsilon), trained, m, v)
        return (trained, running, m, v, count), loss

    return step


def job(form, recipe, batch_size):
    key = jax.random.key(1)
    trained, running = initial(recipe, key)
    zeros = jax.tree.map(jnp.zeros_like, trained)
    state = (trained, running, zeros, jax.tree.map(jnp.zeros_like, trained), jnp.zeros((), jnp.float32))
    x = jax.random.normal(key, (chosen.steps, batch_size, measure.INPUTS))
    y = jax.random.randint(key, (chosen.steps, batch_size), 0, measure.CLASSES)
    step = make_step(recipe)
    if form == "scan":
        whole = jax.jit(lambda state, x, y: jax.lax.scan(step, state, (x, y)), donate_argnums=0)

        def work():
            nonlocal state
            state, losses = whole(state, x, y)
            jax.block_until_ready((state, losses))
    else:
        single = jax.jit(step, donate_argnums=0)
        batches = [(x[i], y[i]) for i in range(chosen.steps)]

        def work():
            nonlocal state
            for batch in batches:
                state, loss = single(state, batch)
            jax.block_until_ready((state, loss))

    return {"form": form, "recipe": recipe, "batchSize": batch_size}, work


jobs = [job(f, r, b) for r in chosen.recipe for b in chosen.batch_size for f in chosen.form]
measure.run(f"jax {jax.__version__}", jobs, chosen)
