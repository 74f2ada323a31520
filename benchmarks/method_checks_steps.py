"""What each loss of a method does in the first steps of a training: whether it moves anything, and what.

Trains a configuration's method for some steps and prints, every so often,

- for every loss and every stage of the backbone, the norm of the loss's gradient on that stage's map relative to that
  of the expression loss there: 0 is a loss that changes nothing, 1 one that weighs as much as the labels;
- the terms that are measurements, such as the mass that `jadfer` drops, and the method's own figures: `cclls` how the
  right faces score against shuffled ones; `ke2nt` cosines of both versions with their texts; `jadfer` the cosine
  between path maps, the emptiest path and head similarity.

    python benchmarks/method_checks_steps.py configs/cclls-ferplus.yaml --steps 100 --set norms=batch

prints Markdown. `--split valid` learns from the validation pictures, for a look at little cost: nothing is judged here.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mien import methods
from mien.data.cropping import load_split
from mien.data.transforms import augment
from mien.labels import NEUTRAL
from mien.methods.base import Batch, Method, expression_target
from mien.training import initialise, optim
from mien.training.batches import BatchLoader
from mien.training.config import load_config


def relative(method: Method, batch: Batch) -> dict[str, float]:
    """For each loss but the expression's: its gradient at each stage that it reaches over that of the expression loss;
    and each term that is a measurement."""
    kept: list[list[Tensor]] = []
    hook = method.get_submodule("backbone").register_forward_hook(
        lambda module, given, found: kept.append(found[1])
    )
    terms = method(batch, method.turns[-1])
    hook.remove()
    stages = kept[0]

    def strength(term: Tensor) -> list[float]:
        found = torch.autograd.grad(term, stages, retain_graph=True, allow_unused=True)
        return [0.0 if one is None else float(one.norm()) for one in found]

    name = "supervision" if "supervision" in terms else "expression"
    labels = strength(terms[name])
    found = {key: float(term) for key, term in terms.items() if not term.requires_grad}
    for key, term in terms.items():
        if key != name and term.requires_grad:
            for place, each in enumerate(strength(term)):
                if each:
                    found[f"{key}, stage {place + 1}"] = each / max(labels[place], 1e-12)
    return found


@torch.no_grad()
def measured(method: Any, name: str, batch: Batch) -> dict[str, float]:
    """A method's own figures on one batch, at evaluation."""
    if name == "cclls" and method.students:
        stages = method.backbone(batch.image)[1][-4:]
        taught, found = method.teacher(stages[-1]), {}
        for place in method.students:
            for what, rows in (("right", slice(None)), ("shuffled", torch.arange(len(taught)).roll(1))):
                term = method.samples({place: stages[int(place)][rows]}, taught)[f"samples{place}"]
                found[f"samples{place}, {what}"] = float(term) / method.config.layer_weights[int(place)]
        return found
    if name == "ke2nt" and hasattr(method, "transformer"):
        versions = method.versions(batch.image)
        shares, _ = expression_target(batch, method.config.classes)
        rows = shares.argmax(dim=1) != NEUTRAL
        emotional, neutral = (torch.nn.functional.normalize(each[rows], dim=1) for each in versions)
        texts = torch.nn.functional.normalize(method.texts, dim=1)
        near = neutral @ texts.T
        own = texts[shares[rows].argmax(dim=1)]
        return {
            "cos(f_e, t_y)": float((emotional * own).sum(dim=1).mean()),
            "cos(f_n, t_y)": float((neutral * own).sum(dim=1).mean()),
            "cos(f_n, t_n)": float(near[:, NEUTRAL].mean()),
            "nearest is neutral": float((near.argmax(dim=1) == NEUTRAL).float().mean()),
        }
    if name == "jadfer" and method.config.paths:
        from mien.methods.jadfer import head_similarity, path_cosine

        _, sight = method.look(batch.image)
        return {
            "path cosine": float(path_cosine(sight.maps)),
            "emptiest path": float(sight.maps.mean(dim=(0, 2, 3)).min()),
            "head similarity": float(np.mean([float(head_similarity(one)) for one in sight.weights])),
        }
    return {}


def main() -> None:
    """Train for some steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config")
    parser.add_argument("--set", dest="assignments", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--every", type=int, default=20)
    parser.add_argument("--split", default="train")
    parser.add_argument("--cache", help="folder of cached crops, if not the configuration's")
    chosen = parser.parse_args()
    more = [f"data.cache={chosen.cache}"] if chosen.cache else []
    config = load_config(chosen.config, chosen.assignments + more)
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    method: Any = methods.build(config.method, config.data.size)
    name = str(config.method["name"])
    if config.start is not None:
        initialise.fill(method, config.start, config.start_part)
    feed = BatchLoader(load_split(config.data, (chosen.split,))[chosen.split], config.batch, 0, config.seed)
    players = {turn: optim.build(method, turn, config.optim) for turn in method.turns}
    schedules = {turn: optim.schedule(one, config.optim, chosen.steps) for turn, one in players.items()}
    if config.norms == "frozen":
        initialise.adapt_norms(method, feed, config)
    header: list[str] = []
    for step in range(chosen.steps + 1):
        if step % feed.steps == 0:
            rows = feed.epoch(step // feed.steps)
        _, targets, crops = next(rows)
        image = augment(crops, config.data, torch.Generator().manual_seed(step))
        batch = targets._replace(image=image)
        method.train()
        if config.norms == "frozen":
            initialise.freeze_norms(method)
        if step % chosen.every == 0:
            figures = relative(method, batch)
            method.eval()
            figures |= measured(method, name, batch)
            if not header:
                header = list(figures)
                print("| step | " + " | ".join(header) + " |")
                print("| --- |" + " --- |" * len(header))
            print(
                f"| {step} | " + " | ".join(f"{figures.get(key, 0):.4f}" for key in header) + " |", flush=True
            )
            method.train()
            if config.norms == "frozen":
                initialise.freeze_norms(method)
        for turn in method.turns:
            loss = torch.stack(list(method(batch, turn).values())).sum()
            players[turn].zero_grad(set_to_none=True)
            loss.backward()
            if config.optim.clip is not None:
                torch.nn.utils.clip_grad_norm_(list(method.parameters_for(turn)), config.optim.clip)
            players[turn].step()
            schedules[turn].step()


if __name__ == "__main__":
    main()
