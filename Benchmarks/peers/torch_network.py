"""A recipe's network and optimizer in PyTorch."""

import measure
import torch
from torch import nn


def layer(kind, *sizes):
    if kind == "linear":
        inputs, outputs, bias = sizes
        linear = nn.Linear(inputs, outputs, bias=bias)
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        return linear
    if kind == "batchNorm":
        return nn.BatchNorm1d(sizes[0], measure.EPSILON, measure.MOMENTUM)
    return nn.ReLU() if kind == "relu" else nn.ELU()


def network(layers):
    return nn.Sequential(*[layer(*description) for description in layers])


def adam(model):
    first, second, epsilon = measure.ADAM
    return torch.optim.Adam(
        model.parameters(), lr=measure.LEARNING_RATE, betas=(first, second), eps=epsilon, fused=True
    )
