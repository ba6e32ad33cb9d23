#!/usr/bin/env python3
"""Trains mnist-bn on MNIST in PyTorch, evaluating after each epoch: the job of `keel train mnist-bn --data mnist`."""

import argparse
import os
import time

import measure

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", help="the folder with MNIST's four files")
parser.add_argument("--form", choices=["eager", "compile"], default="eager")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
chosen = parser.parse_args()
measure.pin(chosen.threads)

import numpy  # noqa: E402
import torch  # noqa: E402  after pin: the thread pool takes its size at import
import torch_network  # noqa: E402
from torch import nn  # noqa: E402


def idx(name):
    """The bytes of an IDX file, or of the same with `.gz`: its header is 4 bytes, and 4 for each extent."""
    import gzip

    path = os.path.join(chosen.data, name)
    with open(path, "rb") if os.path.exists(path) else gzip.open(path + ".gz") as file:
        data = file.read()
    return numpy.frombuffer(data, numpy.uint8, offset=4 + 4 * data[3])


def load(part):
    labels = torch.from_numpy(idx(f"{part}-labels-idx1-ubyte").astype(numpy.int64))
    return torch.from_numpy(idx(f"{part}-images-idx3-ubyte").reshape(len(labels), -1).copy()), labels


torch.set_num_threads(chosen.threads)
torch.manual_seed(chosen.seed)
images, labels = load("train")
test_images, test_labels = load("t10k")
model = torch_network.network(measure.RECIPES["mnist-bn"])
optimizer = torch_network.adam(model)
loss_of = nn.CrossEntropyLoss()


def loss_at(samples):
    y = labels[samples]
    scores = model(images[samples].float().mul_(measure.SCALE))
    return loss_of(scores, y), (scores.argmax(1) == y).sum()


if chosen.form == "compile":
    loss_at = torch.compile(loss_at)

for epoch in range(chosen.epochs):
    model.train()
    start = time.perf_counter()
    total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
    for samples in torch.randperm(len(labels)).split(chosen.batch_size):
        optimizer.zero_grad()
        loss, right = loss_at(samples)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(samples)
        hits += right
    seconds = time.perf_counter() - start
    model.eval()
    with torch.inference_mode():
        parts = zip(test_images.split(1000), test_labels.split(1000))
        right = sum((model(x.float().mul_(measure.SCALE)).argmax(1) == y).sum() for x, y in parts)
    print(
        f"{epoch + 1}/{chosen.epochs}  loss {total.item() / len(labels):.4f}  accuracy {hits.item() / len(labels):.4f}"
        f"  test accuracy {right.item() / len(test_labels):.4f}  {seconds:.3f} s",
        flush=True,
    )
