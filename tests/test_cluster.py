"""The files in cluster/ are checked offline: launchers by Ray's schema, KubeRay's by its CRDs.

tests/data/kuberay_schema.json is what cluster/kuberay/derive_schema.py keeps of the CRDs: the
fields that we use, with their siblings. Every check is shown a mistake, too.
"""

import copy
import importlib.util
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
CLUSTER = ROOT / "cluster"
LAUNCHERS = sorted(CLUSTER.glob("*.yaml"))
RESOURCES = sorted((CLUSTER / "kuberay").glob("ray*.yaml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
Json = dict[str, Any]
Change = Callable[[Json], object]


def load(file: Path) -> Json:
    # Through JSON, so that what an anchor shares is apart and a test may change one place.
    document: Json = json.loads(json.dumps(yaml.safe_load(file.read_text())))
    return document


def check_launcher(config: Json) -> None:
    """Validate as `ray up` does, without a cloud; the one place that knows this private API."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(copy.deepcopy(config)))


def kuberay_problems(resource: Json) -> list[str]:
    """List what the API server would refuse or silently drop."""
    schema = json.loads((ROOT / "tests" / "data" / "kuberay_schema.json").read_text())
    kind = resource["kind"]
    validator = jsonschema.Draft202012Validator(schema | {"$ref": f"#/$defs/{kind}"})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]


def cluster_spec(resource: Json) -> Json:
    spec: Json = resource["spec"]
    nested: Json = spec.get("rayClusterSpec") or spec.get("rayClusterConfig") or spec
    return nested


def pods(resource: Json) -> Iterator[Json]:
    spec = cluster_spec(resource)
    for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
        yield group["template"]["spec"]


def images() -> Iterator[str]:
    for file in LAUNCHERS:
        yield load(file)["docker"]["image"]
    for file in RESOURCES:
        yield from (c["image"] for pod in pods(load(file)) for c in pod["containers"])


def pinned_version(package: str) -> str:
    found = re.search(rf"^{package}==(\S+)$", (ROOT / "constraints.txt").read_text(), re.M)
    assert found, f"constraints.txt does not pin {package}"
    return found[1]


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: file.stem)
def test_the_launcher_accepts_its_file(file: Path) -> None:
    check_launcher(load(file))


@pytest.mark.parametrize(
    "mistake",
    [
        lambda config: config.update(max_wrokers=2),
        lambda config: config["available_node_types"]["head"].update(max_worker=2),
        lambda config: config["available_node_types"]["head"].update(resources={"CPU": "16"}),
        lambda config: config.update(head_node_type="haed"),
        lambda config: config["docker"].update(imgae="x"),
    ],
)
def test_a_mistake_in_a_launcher_file_is_caught(mistake: Change) -> None:
    config = load(CLUSTER / "aws.yaml")
    mistake(config)
    with pytest.raises((ValueError, jsonschema.ValidationError)):
        check_launcher(config)


@pytest.mark.parametrize("file", LAUNCHERS, ids=lambda file: file.stem)
def test_a_launched_cluster_asks_for_a_token_and_hides_its_dashboard(file: Path) -> None:
    config = load(file)
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert any(path.endswith("/.ray/auth_token") for path in config["file_mounts"])
    (start,) = [c for c in config["head_start_ray_commands"] if "ray start" in c]
    assert "--dashboard-host=127.0.0.1" in start


def test_the_three_kinds_are_there() -> None:
    assert {load(file)["kind"] for file in RESOURCES} == {"RayCluster", "RayJob", "RayService"}


@pytest.mark.parametrize("file", RESOURCES, ids=lambda file: file.stem)
def test_kuberay_accepts_the_resource(file: Path) -> None:
    assert not kuberay_problems(load(file))


def head_container(resource: Json) -> Json:
    container: Json = next(pods(resource))["containers"][0]
    return container


@pytest.mark.parametrize(
    ("mistake", "place"),
    [
        (lambda r: r["spec"].update(enableInTreeAutoscalling=True), "$.spec"),
        (lambda r: r["spec"]["authOptions"].update(mode="tokne"), "$.spec.authOptions.mode"),
        (lambda r: r["spec"]["workerGroupSpecs"][0].update(maxReplica=3), "workerGroupSpecs[0]"),
        (lambda r: r["spec"]["workerGroupSpecs"][0].pop("groupName"), "workerGroupSpecs[0]"),
        (lambda r: r["spec"]["workerGroupSpecs"][0].update(maxReplicas="4"), "maxReplicas"),
        (lambda r: next(pods(r)).update(restartPolcy="Never"), "headGroupSpec.template.spec"),
        (lambda r: head_container(r).update(imagePulPolicy="Always"), "containers[0]"),
        (lambda r: head_container(r)["securityContext"].update(privilegd=True), "securityContext"),
        (lambda r: head_container(r)["resources"].update(limit={}), "resources"),
        (lambda r: head_container(r)["resources"]["limits"].update(cpu="4 cores"), "limits.cpu"),
        (lambda r: r["spec"].pop("headGroupSpec"), "$.spec"),
        (lambda r: r.update(apiVersion="ray.io/v1beta9"), "$.apiVersion"),
    ],
)
def test_a_mistake_in_a_resource_is_caught_at_its_place(mistake: Change, place: str) -> None:
    resource = load(CLUSTER / "kuberay" / "raycluster.yaml")
    mistake(resource)
    (problem,) = kuberay_problems(resource)
    assert place in problem.partition(": ")[0]


@pytest.mark.parametrize("name", ["rayjob", "rayservice"])
def test_a_typo_beside_the_cluster_is_caught(name: str) -> None:
    resource = load(CLUSTER / "kuberay" / f"{name}.yaml")
    resource["spec"]["supsend"] = True
    assert ["supsend" in problem for problem in kuberay_problems(resource)] == [True]


@pytest.mark.parametrize("file", RESOURCES, ids=lambda file: file.stem)
def test_a_cluster_on_kubernetes_is_closed_bounded_and_unprivileged(file: Path) -> None:
    spec = cluster_spec(load(file))
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert spec["autoscalerOptions"]["version"] == "v2"
    for pod in pods(load(file)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


def test_every_pod_mounts_the_claim_that_is_declared() -> None:
    claim = load(CLUSTER / "kuberay" / "workspace.yaml")
    assert claim["kind"] == "PersistentVolumeClaim"
    for file in RESOURCES:
        for pod in pods(load(file)):
            (volume,) = pod["volumes"]
            assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
            assert [m["name"] for m in pod["containers"][0]["volumeMounts"]] == [volume["name"]]


def test_every_node_runs_the_image_of_this_version() -> None:
    assert set(images()) == {f"registry.example.com/mainspring:{PROJECT['version']}"}


def test_kuberay_is_told_the_ray_version_that_is_pinned() -> None:
    versions = {cluster_spec(load(file))["rayVersion"] for file in RESOURCES}
    assert versions == {pinned_version("ray")}


def test_the_image_is_pinned_and_its_user_is_not_root() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    starts = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert [re.fullmatch(r"[\w./-]+:\d[\w.-]+", start) is not None for start in starts] == [True]
    users = [line.split()[1] for line in lines if line.startswith("USER ")]
    assert users == ["ray"]


def test_the_image_copies_only_what_exists() -> None:
    lines = (CLUSTER / "Dockerfile").read_text().splitlines()
    names = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_the_commands_on_clusters_name_jobs_and_configurations_that_exist() -> None:
    files = [CLUSTER / "Dockerfile", *RESOURCES]
    text = "\n".join(file.read_text() for file in files).replace('", "', " ")
    jobs = set(re.findall(r"-m (jobs\.\w+)", text))
    assert {job for job in jobs if importlib.util.find_spec(job) is None} == set()
    assert len(jobs) >= 2
    configs = set(re.findall(r"configs/\w+\.yaml", text))
    assert [config for config in configs if not (ROOT / config).is_file()] == []


def test_the_service_describes_an_application_that_can_be_built() -> None:
    from ray.serve.schema import ServeDeploySchema

    text = load(CLUSTER / "kuberay" / "rayservice.yaml")["spec"]["serveConfigV2"]
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    module, _, name = str(application.import_path).partition(":")
    assert callable(getattr(importlib.import_module(module), name))
