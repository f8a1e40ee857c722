"""Derive tests/data/kuberay_schema.json from KubeRay's CRDs: what we use of them, and its siblings.

    python cluster/kuberay/derive_schema.py FOLDER_OF_CRDS > tests/data/kuberay_schema.json

The CRDs are four megabytes of KubeRay's helm-chart/kuberay-operator/crds (Apache-2.0); this
repository does not carry them. What our resources use is kept with its limits; a sibling is kept
with its name and type, so that a typo is caught; everything below it is left out. Knows nothing of
clusters.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

SOURCE = "KubeRay v1.7.0, helm-chart/kuberay-operator/crds, ray.io/v1 (Apache-2.0), reduced"
KEEP = (
    "type",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "nullable",
    "anyOf",
)
Json = dict[str, Any]


def crd_schema(folder: Path, kind: str) -> Json:
    """Read the v1 schema of one kind."""
    document = yaml.safe_load((folder / f"ray.io_{kind.lower()}s.yaml").read_text())
    versions = document["spec"]["versions"]
    schema: Json = next(v for v in versions if v["name"] == "v1")["schema"]["openAPIV3Schema"]
    # Kubernetes checks these two of every resource itself.
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "labels": {"type": "object"}},
        "required": ["name"],
    }
    schema["properties"] |= {"apiVersion": {"enum": ["ray.io/v1"]}, "kind": {"enum": [kind]}}
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    return schema


def reduce(schema: Json, used: list[Any]) -> Json:
    """Keep what the used values reach, and the names and types beside it."""
    kept: Json = {key: schema[key] for key in KEEP if key in schema}
    if schema.get("x-kubernetes-int-or-string"):
        kept["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if "items" in schema:
        below = [item for value in used if isinstance(value, list) for item in value]
        kept["items"] = reduce(schema["items"], below) if below else {}
    objects = [value for value in used if isinstance(value, dict)]
    if "properties" in schema and objects:
        kept["additionalProperties"] = False
        kept["required"] = schema.get("required", [])
        kept["properties"] = {
            name: reduce(child, [value[name] for value in objects if name in value])
            for name, child in sorted(schema["properties"].items())
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        values = [value for each in objects for value in each.values()]
        kept["additionalProperties"] = reduce(schema["additionalProperties"], values)
    return {key: value for key, value in kept.items() if value not in ([], None)}


def main() -> None:
    """Print the reduced schema of the three kinds."""
    folder, ours = Path(sys.argv[1]), Path(__file__).parent
    used = {d["kind"]: d for f in ours.glob("ray*.yaml") for d in [yaml.safe_load(f.read_text())]}
    clusters = [
        used["RayCluster"]["spec"],
        used["RayJob"]["spec"]["rayClusterSpec"],
        used["RayService"]["spec"]["rayClusterConfig"],
    ]
    # Head and workers have pods of one schema: both are reduced by the use of either.
    pods = [c["headGroupSpec"]["template"] for c in clusters]
    pods += [group["template"] for c in clusters for group in c["workerGroupSpecs"]]
    cluster = crd_schema(folder, "RayCluster")["properties"]["spec"]
    pod = cluster["properties"]["headGroupSpec"]["properties"]["template"]
    definitions = {"Pod": reduce(pod, pods), "Cluster": reduce(cluster, clusters)}
    groups = definitions["Cluster"]["properties"]
    groups["headGroupSpec"]["properties"]["template"] = {"$ref": "#/$defs/Pod"}
    groups["workerGroupSpecs"]["items"]["properties"]["template"] = {"$ref": "#/$defs/Pod"}
    kinds = {}
    for kind, place in (
        ("RayCluster", None),
        ("RayJob", "rayClusterSpec"),
        ("RayService", "rayClusterConfig"),
    ):
        kinds[kind] = reduce(crd_schema(folder, kind), [used[kind]])
        spec = kinds[kind]["properties"]
        if place is None:
            spec["spec"] = {"$ref": "#/$defs/Cluster"}
        else:
            spec["spec"]["properties"][place] = {"$ref": "#/$defs/Cluster"}
    document = {"$comment": SOURCE, "$defs": definitions | kinds}
    json.dump(document, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
