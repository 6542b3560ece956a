"""The Helm chart, rendered by Helm's own library, as Kubernetes would get it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "deploy/helm/hisparse"
EXAMPLES = sorted((CHART / "examples").glob("*.yaml"))
RELEASE, NAMESPACE = "run", "observability"

Object = dict[str, Any]


def render(values: dict[str, Any] | None = None, chart: Path = CHART) -> list[Object]:
    """Return every object of the chart with ``values`` over its own; Helm checks them against the schema first."""
    with helm_python.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        files = loaded.render(values, name=RELEASE, namespace=NAMESPACE)
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def notes(values: dict[str, Any] | None = None) -> str:
    """Return what the user reads after the installation."""
    with helm_python.Chart.load(CHART) as loaded:
        return loaded.render(values, name=RELEASE, namespace=NAMESPACE)["hisparse/templates/NOTES.txt"]


def example(name: str) -> dict[str, Any]:
    """Return the values of an example."""
    values = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    assert isinstance(values, dict)
    return values


def of_kind(objects: list[Object], kind: str) -> list[Object]:
    """Return the objects of one kind."""
    return [found for found in objects if found["kind"] == kind]


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield the name and the pod of everything that makes pods."""
    for found in objects:
        if "template" in found.get("spec", {}):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod, those that start first included."""
    return [*pod.get("initContainers", []), *pod["containers"]]
