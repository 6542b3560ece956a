"""The chart, by Helm's own library; what it makes, by Kubernetes' own schemas and the Prometheus Operator's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from tests.support import hisparse_cli
from tests.support.chart import (
    CHART,
    EXAMPLES,
    NAMESPACE,
    Object,
    containers,
    example,
    notes,
    of_kind,
    pod_specs,
    render,
)
from tests.support.npm import require_packages
from tests.support.programs import promtool

ROOT = CHART.parents[2]
OPERATOR = Path(__file__).parent / "operator"
KUBERNETES = ["1.29", kubernetes_validate.latest_version()]
"""The oldest that Chart.yaml allows, and the newest whose schemas are installed."""
VARIANTS = ["default", *(path.stem for path in EXAMPLES)]
OF_PROMETHEUS_OPERATOR = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
DASHBOARDS = sorted((ROOT / "dashboards/generated").glob("*.json"))
RULES = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))


def values_of(variant: str) -> dict[str, Any]:
    return {} if variant == "default" else example(variant)


@cache
def objects_of(variant: str) -> list[Object]:
    return render(values_of(variant))


# --- valid for whoever reads it ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_helm_lint_finds_nothing(variant: str) -> None:
    report = helm_python.lint(CHART, values_of(variant), strict=True, namespace=NAMESPACE)
    worse_than_advice = [message for message in report["messages"] if message["severity"] > 1]
    assert report["total_charts_linted"] == 1
    assert worse_than_advice == report["errors"] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_schemas_accept_every_object_of_every_variant(version: str) -> None:
    objects = {json.dumps(found): found for variant in VARIANTS for found in objects_of(variant)}
    own = [f for f in objects.values() if f["kind"] not in OF_PROMETHEUS_OPERATOR]
    assert {"ConfigMap", "DaemonSet", "Deployment", "StatefulSet"} < {found["kind"] for found in own}
    for found in own:
        kubernetes_validate.validate(found, version, strict=True)
    wrong = json.loads(json.dumps(of_kind(own, "DaemonSet")[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_the_oldest_kubernetes_is_the_one_that_the_chart_asks_for() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_everything_that_the_chart_can_make_is_in_some_variant() -> None:
    made = {found["kind"] for variant in VARIANTS for found in objects_of(variant)}
    templates = "".join(path.read_text() for path in (CHART / "templates").glob("*.yaml"))
    assert made == set(re.findall(r"^kind: (\w+)", templates, re.MULTILINE))


def test_names_are_unique_and_carry_the_release() -> None:
    for variant in VARIANTS:
        names = [(found["kind"], found["metadata"]["name"]) for found in objects_of(variant)]
        assert len(set(names)) == len(names)
        assert all(name.startswith("run-hisparse") for _, name in names)


def test_the_longest_names_are_still_valid() -> None:
    for found in render({"fullnameOverride": "x" * 40, "engine": {"enabled": True}}):
        assert len(found["metadata"]["name"]) <= 63
        kubernetes_validate.validate(found, KUBERNETES[-1], strict=True)


def test_the_operators_own_definitions_accept_its_objects() -> None:
    objects = [found for v in VARIANTS for found in objects_of(v) if found["kind"] in OF_PROMETHEUS_OPERATOR]
    assert {found["kind"] for found in objects} == OF_PROMETHEUS_OPERATOR
    assert refused_by_operator(objects) == ""
    broken = json.loads(json.dumps(of_kind(objects, "PodMonitor")[0]))
    broken["spec"]["podMetricsEndpoints"][0]["port"] = 9477
    assert "port must be string" in refused_by_operator([broken])


def refused_by_operator(objects: list[Object]) -> str:
    script = (OPERATOR / "validate.mjs").read_text()
    command = ["node", "--input-type=module", "--eval", script]
    done = subprocess.run(
        command, cwd=require_packages(OPERATOR), input=json.dumps(objects), capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout


def test_monitors_have_no_field_that_the_operator_would_drop() -> None:
    known = {
        "port", "path", "scheme", "interval", "scrapeTimeout", "relabelings", "basicAuth",
        "tlsConfig",
    }  # fmt: skip
    relabel = {"action", "sourceLabels", "separator", "targetLabel", "replacement", "regex"}
    for variant in VARIANTS:
        for monitor in of_kind(objects_of(variant), "PodMonitor") + of_kind(
            objects_of(variant), "ServiceMonitor"
        ):
            spec = monitor["spec"]
            assert set(spec) <= {"selector", "namespaceSelector", "podMetricsEndpoints", "endpoints"}
            [endpoint] = spec.get("podMetricsEndpoints") or spec["endpoints"]
            assert set(endpoint) <= known
            assert all(set(rule) <= relabel for rule in endpoint["relabelings"])


# --- what is generated arrives unchanged ---


def test_prometheus_rules_are_the_generated_ones_and_pass_promtool(tmp_path: Path) -> None:
    rules = of_kind(objects_of("engine"), "PrometheusRule")
    assert len(rules) == len(RULES)
    for rule, source in zip(sorted(rules, key=lambda rule: rule["metadata"]["name"]), RULES, strict=True):
        assert rule["spec"] == yaml.safe_load(source.read_text())
        assert set(rule["spec"]) == {"groups"}
        path = tmp_path / source.name
        path.write_text(yaml.safe_dump(rule["spec"]))
        assert "SUCCESS" in promtool("check", "rules", path).stdout


def test_each_dashboard_is_a_config_map_of_its_own_with_the_generated_text() -> None:
    found = of_kind(objects_of("default"), "ConfigMap")
    assert {name: text for part in found for name, text in part["data"].items()} == {
        path.name: path.read_text().rstrip("\n") for path in DASHBOARDS
    }
    for part in found:
        assert len(part["data"]) == 1
        assert len(json.dumps(part)) < 1 << 20
        assert part["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_a_dashboard_too_large_for_a_config_map_is_refused_by_name(tmp_path: Path) -> None:
    with helm_python.Chart.load(CHART) as chart:
        copy = Path(chart.save_dir(tmp_path))
    (copy / "files/dashboards/large.json").write_text(json.dumps("x" * 1_000_000))
    with pytest.raises(helm_python.HelmRenderError, match=r"large\.json has 1000002 bytes: it does not fit"):
        render(chart=copy)


def test_the_secret_is_alertmanagers_generated_configuration() -> None:
    [secret] = of_kind(objects_of("tls"), "Secret")
    generated = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    assert secret["stringData"] == {"alertmanager.yaml": generated.rstrip("\n")}


def test_a_packaged_chart_has_the_content_and_renders_the_same(tmp_path: Path) -> None:
    archive = Path(helm_python.package(CHART, destination=tmp_path))
    with tarfile.open(archive) as packed:
        members = {member.name: member for member in packed.getmembers()}
        for folder, sources in (("dashboards", DASHBOARDS), ("rules", RULES)):
            for source in sources:
                member = members[f"hisparse/files/{folder}/{source.name}"]
                content = packed.extractfile(member)
                assert content is not None
                assert content.read() == source.read_bytes()
    assert render(example("engine"), chart=archive) == objects_of("engine")


# --- what runs ---


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_command_is_one_that_hisparse_understands(variant: str) -> None:
    for _, pod in pod_specs(objects_of(variant)):
        for container in containers(pod):
            if container["name"] != "sglang":
                assert "command" not in container
                hisparse_cli.parse(container["args"])


def test_the_exporter_reads_what_the_engine_writes() -> None:
    [(_, pod)] = pod_specs(objects_of("engine"))
    engine, exporter = containers(pod)
    mounts = {c["name"]: {m["name"]: m for m in c["volumeMounts"]} for c in (engine, exporter)}
    assert mounts["engine"]["stats"] == {"name": "stats", "mountPath": "/run/hisparse"}
    assert mounts["exporter"]["stats"] == {"name": "stats", "mountPath": "/run/hisparse", "readOnly": True}
    [stats] = [volume for volume in pod["volumes"] if volume["name"] == "stats"]
    assert stats["emptyDir"]["medium"] == "Memory"
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    assert "HISPARSE_STATS_DIR=/run/hisparse" in dockerfile
    assert hisparse_cli.parse(exporter["args"])["stats_dir"] == Path("/run/hisparse")


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_containers_run_without_root_and_rights(variant: str) -> None:
    for _, pod in pod_specs(objects_of(variant)):
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in containers(pod):
            if container["name"] == "sglang":
                continue
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            context = {**pod.get("securityContext", {}), **container["securityContext"]}
            assert context["runAsNonRoot"] is True
            assert context["runAsUser"] == 10001
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]
            assert "livenessProbe" in container


@pytest.mark.parametrize("variant", ["engine", "engine-serve"])
def test_the_engine_passes_pod_security_restricted(variant: str) -> None:
    """With what the test above holds for every container: only volumes of the kinds that the level allows."""
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for _, pod in pod_specs(objects_of(variant)):
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
        assert not [port for c in containers(pod) for port in c["ports"] if "hostPort" in port]


def test_the_nodes_file_system_is_only_read_and_only_for_logs() -> None:
    for variant in VARIANTS:
        for name, pod in pod_specs(objects_of(variant)):
            folders = {v["name"]: v["hostPath"]["path"] for v in pod["volumes"] if "hostPath" in v}
            assert set(folders.values()) <= {"/var/log/pods"}, name
            mounts = [m for c in containers(pod) for m in c["volumeMounts"] if m["name"] in folders]
            assert all(mount["readOnly"] for mount in mounts)


def test_every_mount_has_its_volume_and_every_written_folder_is_one() -> None:
    for variant in VARIANTS:
        for found in objects_of(variant):
            for _, pod in pod_specs([found]):
                claims = [
                    claim["metadata"]["name"] for claim in found["spec"].get("volumeClaimTemplates", [])
                ]
                volumes = [volume["name"] for volume in pod["volumes"]] + claims
                assert len(set(volumes)) == len(volumes)
                assert {m["name"] for c in containers(pod) for m in c["volumeMounts"]} <= set(volumes)


def test_a_failing_sidecar_keeps_sglang_neither_from_starting_nor_from_serving() -> None:
    [(_, pod)] = pod_specs(objects_of("sglang-sidecar"))
    [sidecar] = pod["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert not {"readinessProbe", "startupProbe"} & set(sidecar)
    [mount] = [m for m in sidecar["volumeMounts"] if m["name"] == "hisparse-pod-logs"]
    assert mount["subPathExpr"] == "$(POD_NAMESPACE)_$(POD_NAME)_$(POD_UID)"
    assert {"POD_NAMESPACE", "POD_NAME", "POD_UID"} == {variable["name"] for variable in sidecar["env"]}


def test_a_server_ends_in_good_order_before_it_is_killed() -> None:
    engine = example("engine-serve")["engine"]
    drain = hisparse_cli.parse(engine["args"])["drain_timeout"]
    assert isinstance(drain, float)
    assert engine["terminationGracePeriodSeconds"] > drain
    sources = (ROOT / "hisparse_engine/server/site_api.py").read_text()
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        path = engine[probe]["httpGet"]["path"]
        assert f'"{path}", methods=["GET"' in sources


# --- who scrapes ---


@pytest.mark.parametrize("variant", ["engine", "sglang-node-logs", "sglang-sidecar", "tls"])
def test_the_pod_monitor_finds_the_metrics_port_of_every_pod(variant: str) -> None:
    objects = objects_of(variant)
    [monitor] = of_kind(objects, "PodMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    for found in objects:
        if "template" in found.get("spec", {}):
            template = found["spec"]["template"]
            assert wanted <= template["metadata"]["labels"].items()
            ports = [p["name"] for c in containers(template["spec"]) for p in c["ports"]]
            assert ports.count(endpoint["port"]) == 1


def test_the_service_monitor_finds_the_services() -> None:
    objects = render(example("engine-serve") | {"nodeLogs": {"enabled": True}})
    [monitor] = of_kind(objects, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    services = [s for s in of_kind(objects, "Service") if wanted <= s["metadata"]["labels"].items()]
    assert [s["metadata"]["name"] for s in services] == ["run-hisparse-engine", "run-hisparse-node-logs"]
    pods = [
        found["spec"]["template"]["metadata"]["labels"]
        for found in objects
        if "template" in found.get("spec", {})
    ]
    for service in services:
        assert "metrics" in [port["name"] for port in service["spec"]["ports"]]
        assert [service["spec"]["selector"].items() <= labels.items() for labels in pods].count(True) == 1


@pytest.mark.parametrize("variant", ["engine", "vllm"])
def test_jobs_have_the_name_that_the_alerts_watch(variant: str) -> None:
    [monitor] = of_kind(objects_of(variant), "PodMonitor")
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    job = next(rule for rule in endpoint["relabelings"] if rule.get("targetLabel") == "job")
    assert job["replacement"].startswith("hisparse")


def test_the_network_policies_cover_our_pods_and_let_nothing_out() -> None:
    objects = objects_of("tls")
    policies = of_kind(objects, "NetworkPolicy")
    ours = [f["spec"]["template"]["metadata"]["labels"] for f in objects if "template" in f.get("spec", {})]
    assert len(policies) == len(ours) == 2
    for policy in policies:
        selector = policy["spec"]["podSelector"]["matchLabels"].items()
        assert [selector <= labels.items() for labels in ours].count(True) == 1
        assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
        assert policy["spec"]["egress"] == []
        [rule] = policy["spec"]["ingress"]
        assert rule["ports"] == [{"port": "metrics", "protocol": "TCP"}]


def test_the_engines_ports_are_open_to_those_who_are_named() -> None:
    clients = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]
    objects = render({"engine": {"enabled": True}, "networkPolicy": {"engine": {"from": clients}}})
    policy = next(p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"].endswith("-engine"))
    assert policy["spec"]["ingress"][1] == {"from": clients, "ports": [{"port": "engine", "protocol": "TCP"}]}


def test_a_disruption_budget_never_blocks_the_only_replica() -> None:
    assert of_kind(render({"engine": {"enabled": True}}), "PodDisruptionBudget") == []
    [budget] = of_kind(objects_of("engine"), "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1


def test_tls_reaches_probes_monitors_and_commands() -> None:
    objects = objects_of("tls")
    for _, pod in pod_specs(objects):
        exporter = containers(pod)[-1]
        assert "--web.config.file=/etc/hisparse/web.yaml" in exporter["args"]
        assert exporter["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"
    [monitor] = of_kind(objects, "PodMonitor")
    assert monitor["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"


# --- what a person may set ---


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"nodeLog": {}}, "nodeLog"),
        ({"engine": {"replicas": "two"}}, "/engine/replicas"),
        ({"engine": {"replicas": -1}}, "/engine/replicas"),
        ({"engine": {"ports": [{"name": "x", "containerPort": 9477}]}}, "/engine/ports/0/containerPort"),
        ({"images": {"sidecar": {"digest": "sha256:abc"}}}, "/images/sidecar/digest"),
        ({"images": {"sidecar": {"pullPolicy": "Sometimes"}}}, "/images/sidecar/pullPolicy"),
        ({"nodeLogs": {"patterns": ["/etc/*"]}}, "/nodeLogs/patterns/0"),
        ({"nodeLogs": {"patterns": []}}, "/nodeLogs/patterns"),
        ({"nodeLogs": {"resources": {"limits": {"memory": "lots"}}}}, "/nodeLogs/resources/limits/memory"),
        ({"podMonitor": {"interval": "5"}}, "/podMonitor/interval"),
        ({"web": {"tls": True}}, "/web/configSecret"),
        ({"sglang": {"enabled": True}}, "/sglang/image"),
        ({"vllm": {"podMonitor": {"enabled": True}}}, "/vllm/podMonitor/matchLabels"),
        ({"serviceMonitor": {"namespaces": ["a"]}}, "/serviceMonitor"),
    ],
)
def test_helm_refuses_a_wrong_value_by_its_path(values: dict[str, Any], said: str) -> None:
    with pytest.raises(helm_python.HelmValuesError) as error:
        render(values)
    assert re.search(rf"^- at '.*{re.escape(said)}", str(error.value), re.MULTILINE)


def test_scraping_twice_is_refused() -> None:
    with pytest.raises(helm_python.HelmRenderError, match="would scrape everything twice: choose one"):
        render({"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}})


def test_every_value_has_a_use_and_a_place_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) == {*values, "global"}
    for section, content in values.items():
        if isinstance(content, dict) and content:
            declared = schema["properties"][section]["properties"]
            assert set(declared) == set(content), section
            for name in content:
                assert re.search(rf"\.{name}\b", templates), f"{section}.{name} is used nowhere"


def test_the_notes_name_what_was_installed_and_what_is_missing() -> None:
    said = notes()
    assert "daemonset/run-hisparse-node-logs" in said
    assert "Nothing scrapes yet" in said
    assert "There are no alerts yet" in said
    complete = notes(example("engine"))
    assert "statefulset/run-hisparse-engine" in complete
    assert "yet" not in complete
    assert "yet" not in notes(example("vllm"))


# --- the README, and a chart of somebody else's ---


def test_the_readmes_table_is_what_values_yaml_says() -> None:
    done = subprocess.run(
        [sys.executable, CHART.parent / "values_table.py", "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, "run: python deploy/helm/values_table.py"
    readme = (CHART / "README.md").read_text()
    assert "| `nodeLogs.staleAfter` | `60` | Seconds after which" in readme


def test_the_readme_shows_each_example() -> None:
    readme = (CHART / "README.md").read_text()
    assert sorted(re.findall(r"\(examples/([\w-]+)\.yaml\)", readme)) == sorted(
        path.stem for path in EXAMPLES
    )


def test_the_readmes_pod_without_helm_is_what_the_template_makes() -> None:
    readme = (CHART / "README.md").read_text()
    snippet = yaml.safe_load(readme.split("<!-- snippet -->\n```yaml\n")[1].split("```")[0])
    [(_, pod)] = pod_specs(objects_of("sglang-sidecar"))
    assert snippet["initContainers"] == pod["initContainers"]
    assert snippet["volumes"] == [v for v in pod["volumes"] if v["name"].startswith("hisparse-")]


@pytest.mark.parametrize(
    ("how", "argument"),
    [
        ('"container" "engine"', "--cri=/logs/engine/*.log"),
        ('"file" "/logs/*.log" "volume" "logs"', "--sglang-log=/logs/*.log"),
    ],
)
def test_a_chart_that_depends_on_this_one_gets_the_sidecar(tmp_path: Path, how: str, argument: str) -> None:
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    (parent / "templates").mkdir()
    helm_python.package(CHART, destination=parent / "charts")
    (parent / "Chart.yaml").write_text(
        "{apiVersion: v2, name: parent, version: 1.0.0, dependencies: [{name: hisparse, version: 0.1.0}]}"
    )
    (parent / "values.yaml").write_text(
        "{hisparse: {nodeLogs: {enabled: false}, dashboards: {enabled: false}}}"
    )
    (parent / "templates/pod.yaml").write_text(PARENT_POD.replace("HOW", how))
    objects = render(chart=parent)
    [pod] = of_kind(objects, "Pod")
    kubernetes_validate.validate(pod, KUBERNETES[-1], strict=True)
    [sidecar] = pod["spec"]["initContainers"]
    assert argument in sidecar["args"]
    hisparse_cli.parse(sidecar["args"])
    assert {m["name"] for m in sidecar["volumeMounts"]} <= {v["name"] for v in pod["spec"]["volumes"]}
    assert of_kind(objects, "DaemonSet") == []


PARENT_POD = """
apiVersion: v1
kind: Pod
metadata: {name: parent, labels: {hisparse/scrape: "true"}}
spec:
  initContainers:
    {{- include "hisparse.sidecar" (dict "root" $.Subcharts.hisparse HOW) | nindent 4 }}
  containers:
    - {name: engine, image: sglang}
  volumes:
    - {name: logs, emptyDir: {}}
    {{- include "hisparse.sidecarVolumes" (dict "root" $.Subcharts.hisparse HOW) | nindent 4 }}
"""
