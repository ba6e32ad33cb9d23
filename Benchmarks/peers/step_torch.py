#!/usr/bin/env python3
"""Time of training steps and of evaluation in PyTorch on the CPU; a step has fused Adam and running statistics."""

import measure

FORMS = ["eager", "compile"]
chosen = measure.options(__doc__, FORMS)
measure.pin(chosen.threads)

import torch  # noqa: E402  after pin: the thread pool takes its size at import
import torch_network  # noqa: E402
from torch import nn  # noqa: E402


def make_step(form, recipe, batch_size):
    model = torch_network.network(measure.RECIPES[recipe]).train()
    optimizer = torch_network.adam(model)
    loss_of = nn.CrossEntropyLoss()
    count = chosen.steps * batch_size
    images = torch.randint(256, (count, measure.INPUTS), dtype=torch.uint8)
    labels = torch.randint(measure.CLASSES, (count,))
    order = torch.randperm(count)

    def loss_at(samples):
        return loss_of(model(images[samples].float().mul_(measure.SCALE)), labels[samples])

    if form == "compile":
        loss_at = torch.compile(loss_at)

    def work():
        for samples in order.split(batch_size):
            optimizer.zero_grad()
            loss_at(samples).backward()
            optimizer.step()

    return work


def make_evaluation(form, recipe, batch_size):
    model = torch_network.network(measure.folded(recipe)).eval()
    images = torch.randint(256, (measure.TEST_IMAGES, measure.INPUTS), dtype=torch.uint8)
    labels = torch.randint(measure.CLASSES, (measure.TEST_IMAGES,))

    def figures(x, y):
        scores = model(x.float().mul_(measure.SCALE))
        return nn.functional.cross_entropy(scores, y, reduction="sum"), (scores.argmax(1) == y).sum()

    if form == "compile":
        figures = torch.compile(figures)

    def work():
        with torch.inference_mode():
            sums = [figures(x, y) for x, y in zip(images.split(batch_size), labels.split(batch_size))]
            return sum(loss for loss, _ in sums).item(), sum(hits for _, hits in sums).item()

    return work


def make(work, form, recipe, batch_size):
    torch.manual_seed(1)
    return (make_step if work == "step" else make_evaluation)(form, recipe, batch_size)


torch.set_num_threads(chosen.threads)
measure.run(f"pytorch {torch.__version__}", make, chosen)
