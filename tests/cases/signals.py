#!/usr/bin/env python3
"""Makes signals.json: states of a few examples in a few latent spaces, and what numpy says of them by the definitions.

  python tests/cases/signals.py            writes it
  python tests/cases/signals.py --check    fails where it is another

Variability: Xie et al. 2022 (arXiv 2210.10041), trace(Sigma_w Sigma_b^+) / classes; classes of one row are left out.
CKA: Kornblith et al. 2019 (arXiv 1905.00414), linear, of a space and the one below it.
"""
import json, os, sys

import numpy as np

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "signals.json")


def variability(states, classes):
    rows = {c: states[[own == c for own in classes]] for c in set(classes) - {None}}
    rows = {c: own for c, own in rows.items() if len(own) > 1}
    if len(rows) < 2:
        return None
    means = np.stack([own.mean(0) for own in rows.values()])
    apart = means - means.mean(0)
    if np.abs(apart).max() < 1e-6:
        return None
    within = np.mean([(own - own.mean(0)).T @ (own - own.mean(0)) / len(own) for own in rows.values()], axis=0)
    between = apart.T @ apart / len(rows)
    return float(np.trace(within @ np.linalg.pinv(between, rcond=1e-9, hermitian=True)) / len(rows))


def cka_distance(below, own):
    x, y = below - below.mean(0), own - own.mean(0)
    if min(np.abs(x).max(), np.abs(y).max()) < 1e-6:
        return None
    alignment = np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))
    return float(1 - alignment)


def case(name, seed, examples, spaces, hidden, classes, change=lambda states: None):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(1 + max(c for c in classes if c is not None), hidden))
    states = np.empty((examples, spaces, hidden))
    for space in range(spaces):
        pull = space / spaces
        for row, own in enumerate(classes):
            towards = 0 if own is None else pull * centres[own]
            states[row, space] = random.normal(size=hidden) * 0.7 + towards + 2
    change(states)
    states = np.round(states, 3).astype(np.float32).astype(np.float64)
    of = [states[:, space] for space in range(spaces)]
    return {
        "name": name,
        "classes": classes,
        "states": np.round(states, 3).tolist(),
        "variability": [variability(own, classes) for own in of],
        "cka_distance": [None] + [cka_distance(below, own) for below, own in zip(of, of[1:])],
    }


def same(states):
    states[:, 0] = states[0, 0]


def cases():
    return [
        case("three classes", 1, 12, 3, 5, [0, 1, 2] * 4),
        case("classes of unlike sizes, one of one row, one row of none", 2, 11, 2, 6, [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, None]),
        case("more classes than dimensions", 3, 16, 2, 3, [0, 1, 2, 3, 4, 5, 6, 7] * 2),
        case("fewer rows than dimensions", 4, 6, 2, 12, [0, 1] * 3),
        case("a space in which all states are the same", 5, 8, 3, 4, [0, 1] * 4, same),
    ]


text = json.dumps(cases(), separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n"
if "--check" not in sys.argv[1:]:
    with open(FILE, "w") as file:
        file.write(text)
else:
    with open(FILE) as file:
        kept = json.load(file)
    made = json.loads(text)
    flat = lambda case: [x for key in ("variability", "cka_distance") for x in case[key]]
    alike = len(kept) == len(made) and all(
        {**a, "variability": 0, "cka_distance": 0} == {**b, "variability": 0, "cka_distance": 0}
        and all((x is None) == (y is None) and (x is None or abs(x - y) <= 1e-9 * max(1, abs(y))) for x, y in zip(flat(a), flat(b)))
        for a, b in zip(kept, made)
    )
    if not alike:
        sys.exit(f"{FILE} is another than numpy gives: run tests/cases/signals.py")
