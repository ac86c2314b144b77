"""What an expression of Prometheus' language asks for, and which labels its answer has."""

from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser as promql

TARGET = frozenset({"instance", "job"})
"""Labels that Prometheus itself puts on each series."""
SETS = ("and", "or", "unless")


def parse(expression: str) -> Any:
    """The expression, with Grafana's variables replaced by what they may stand for."""
    return promql.parse(expression.replace("$__rate_interval", "5m").replace("$model", ".*"))


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of series in it."""
    kind = type(node).__name__
    if kind == "VectorSelector":
        yield node
    elif kind == "MatrixSelector":
        yield node.vector_selector
    elif kind == "BinaryExpr":
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif kind == "Call":
        for argument in node.args:
            yield from selectors(argument)
    elif kind in ("AggregateExpr", "ParenExpr", "SubqueryExpr", "UnaryExpr"):
        yield from selectors(node.expr)
    else:
        assert kind in ("NumberLiteral", "StringLiteral"), kind


def labels(node: Any, exported: Mapping[str, set[str]]) -> frozenset[str] | None:
    """Labels of the answer; None of a plain number. Raises `AssertionError` where a label does not exist, or two sides can
    never meet because their labels differ."""
    kind = type(node).__name__
    if kind in ("VectorSelector", "MatrixSelector"):
        return of_selector(node if kind == "VectorSelector" else node.vector_selector, exported)
    if kind == "BinaryExpr":
        return of_two(node, labels(node.lhs, exported), labels(node.rhs, exported))
    if kind == "AggregateExpr":
        return of_group(node, labels(node.expr, exported))
    if kind == "Call":
        return of_call(node, [labels(argument, exported) for argument in node.args])
    if kind in ("ParenExpr", "UnaryExpr", "SubqueryExpr"):
        return labels(node.expr, exported)
    return None


def of_selector(node: Any, exported: Mapping[str, set[str]]) -> frozenset[str]:
    assert node.name == "up" or node.name in exported, f"there is no metric {node.name}"
    has = frozenset(exported.get(node.name, set())) | TARGET
    for matcher in node.matchers.matchers:
        assert matcher.name in has, f"{node.name} has no label {matcher.name}"
    return has


def of_group(node: Any, inner: frozenset[str] | None) -> frozenset[str]:
    assert inner is not None, "an aggregation is over series"
    if str(node.op) in ("topk", "bottomk"):
        return inner
    if node.modifier is None:
        return frozenset()
    named = frozenset(node.modifier.labels)
    assert named <= inner, f"{node.op} by or without {set(named - inner)}, which it does not have"
    return named if "By" in str(node.modifier.type) else inner - named


def of_call(node: Any, arguments: list[frozenset[str] | None]) -> frozenset[str] | None:
    if node.func.name == "vector":
        return frozenset()
    found = [each for each in arguments if each is not None]
    if not found:
        return None
    if node.func.name == "histogram_quantile":
        assert "le" in found[0], "a quantile needs the buckets' bounds"
        return found[0] - {"le"}
    return found[0]


def of_two(node: Any, left: frozenset[str] | None, right: frozenset[str] | None) -> frozenset[str] | None:
    if left is None or right is None:
        return left if right is None else right
    matching = node.modifier.matching if node.modifier else None
    if matching is None:
        assert left == right, f"{set(left)} and {set(right)} never meet"
        return left
    on = frozenset(matching.labels)
    assert on <= left, f"the left side has no {set(on - left)}"
    assert on <= right, f"the right side has no {set(on - right)}"
    return left if str(node.op) in SETS else on
