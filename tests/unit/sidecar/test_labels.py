from __future__ import annotations

import pytest

from hisparse_metrics.sidecar.labels import EngineLabels, fill, path_parts, unknown_placeholders

POD = "/var/log/pods/prod_glm-0_6f1c/sglang/2.log"


@pytest.mark.parametrize(
    ("labels", "source", "name", "model"),
    [
        (EngineLabels(), "/var/log/a.log", "sglang", ""),
        (EngineLabels("glm", "east"), POD, "east", "glm"),
        (EngineLabels(), POD, "glm-0", ""),
        (EngineLabels("{container}", "{namespace}/{pod}"), POD, "prod/glm-0", "sglang"),
        (EngineLabels("m", "{stem}"), "/var/log/east.log", "east", "m"),
        (EngineLabels("m", "{source}"), "stdin", "stdin", "m"),
    ],
)
def test_names_come_from_the_configuration_or_the_path(
    labels: EngineLabels, source: str, name: str, model: str
) -> None:
    assert labels.of_log(source) == {"engine_name": name, "model_name": model}


def test_a_placeholder_that_nobody_fills_is_found() -> None:
    assert unknown_placeholders("{pod}-{node}") == ["node"]
    assert fill("{pod}-{node}", path_parts(POD)) == "glm-0-{node}"
