"""VoCo's losses as the specification writes them, in loops over lists of numbers; slow, literal, nothing shared."""

from __future__ import annotations

import math

Vector = list[float]


def relu_cosine(a: Vector, b: Vector) -> float:
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return max(0.0, product / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b)))


def alikeness(variant: str, student: list[Vector], teacher: list[Vector], target: int, base: int, n: int) -> float:
    """Return l for a target and a base; embeddings are those of the n bases and then the targets."""
    if variant == "v0":  # no teacher: bases of the student itself
        return relu_cosine(student[n + target], student[base])
    first = relu_cosine(student[n + target], teacher[base])
    if variant == "v2":
        return first
    return (first + relu_cosine(teacher[n + target], student[base])) / 2


def positive_and_negative(
    variant: str, y: list[Vector], said: list[Vector], targets: list[bool], bases: list[bool]
) -> tuple[float, float]:
    above = below = far = none = 0.0
    for t, row in enumerate(y):
        for b, share in enumerate(row):
            if not (targets[t] and bases[b]):
                continue
            alike = said[t][b]
            if share > 0:
                weight = 1.0 if variant == "v0" else share
                above += weight * -math.log(1 - abs(share - alike) + 1e-6)
                below += weight
            else:
                far += -math.log(1 - alike + 1e-6) if variant == "v2" else alike**2
                none += 1
    return above / (below + 1e-6), far / (none + 1e-6)


def regularisation(student: list[Vector], bases: list[bool]) -> float:
    counted = [b for b, counts in enumerate(bases) if counts]
    values = [relu_cosine(student[i], student[j]) ** 2 for i in counted for j in counted if i < j]
    return sum(values) / (len(values) + 1e-6)


def terms(
    variant: str,
    student: list[list[Vector]],
    teacher: list[list[Vector]],
    labels: list[list[Vector]],
    between: bool = False,
) -> tuple[float, float, float, float]:
    """Return the means of the four terms over volumes."""
    n = len(labels[0][0])
    volumes = range(len(labels))
    shares = [label[:-1] for label in labels]
    bases = [[value == 1 for value in label[-1]] for label in labels]
    targets = [[sum(row) > 0 for row in part] for part in shares]
    total = [0.0] * 4
    for v in volumes:
        rows, columns = range(len(shares[v])), range(n)
        said = [[alikeness(variant, student[v], teacher[v], t, b, n) for b in columns] for t in rows]
        parts = [*positive_and_negative(variant, shares[v], said, targets[v], bases[v])]
        parts.append(regularisation(student[v], bases[v]))
        other = (v + 1) % len(labels)
        if between and other != v:
            told = [[relu_cosine(teacher[v][n + t], teacher[other][b]) for b in columns] for t in rows]
            said = [[relu_cosine(student[v][n + t], student[other][b]) for b in columns] for t in rows]
            parts.append(sum(positive_and_negative(variant, told, said, targets[v], bases[other])))
        else:
            parts.append(0.0)
        total = [a + b / len(labels) for a, b in zip(total, parts, strict=True)]
    return total[0], total[1], total[2], total[3]
