#!/usr/bin/env python3
"""Time of one training step in PyTorch on the CPU: forward, backward, fused Adam, running statistics."""

import measure

FORMS = ["eager", "compile"]
chosen = measure.options(__doc__, FORMS)
measure.pin(chosen.threads)

import torch  # noqa: E402  after pin: the thread pool takes its size at import
from torch import nn  # noqa: E402


def layer(kind, *sizes):
    if kind == "linear":
        inputs, outputs, bias = sizes
        linear = nn.Linear(inputs, outputs, bias=bias)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        return linear
    if kind == "batchNorm":
        return nn.BatchNorm1d(sizes[0], measure.EPSILON, measure.MOMENTUM)
    return nn.ReLU() if kind == "relu" else nn.ELU()


def job(form, recipe, batch_size):
    torch.manual_seed(1)
    model = nn.Sequential(*[layer(*description) for description in measure.RECIPES[recipe]]).train()
    forward = torch.compile(model) if form == "compile" else model
    first, second, epsilon = measure.ADAM
    optimizer = torch.optim.Adam(
        model.parameters(), lr=measure.LEARNING_RATE, betas=(first, second), eps=epsilon, fused=True
    )
    loss_of = nn.CrossEntropyLoss()
    batches = [
        (torch.randn(batch_size, measure.INPUTS), torch.randint(measure.CLASSES, (batch_size,)))
        for _ in range(chosen.steps)
    ]

    def work():
        for x, y in batches:
            optimizer.zero_grad()
            loss_of(forward(x), y).backward()
            optimizer.step()

    return {"form": form, "recipe": recipe, "batchSize": batch_size}, work


torch.set_num_threads(chosen.threads)
jobs = [job(f, r, b) for r in chosen.recipe for b in chosen.batch_size for f in chosen.form]
measure.run(f"pytorch {torch.__version__}", jobs, chosen)
