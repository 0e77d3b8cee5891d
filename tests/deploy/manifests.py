"""Reads deploy/kubernetes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).resolve().parents[2] / "deploy"
KUBERNETES: Final = DEPLOY / "kubernetes"

Manifest = dict[str, Any]


def read_manifests() -> Iterator[tuple[str, Manifest]]:
    """Each object with its place, the kustomizations left out."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name == "kustomization.yaml":
            continue
        for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(KUBERNETES)}:{manifest['kind']}/{manifest['metadata']['name']}", manifest


def find(kind: str, name: str) -> Manifest:
    (found,) = [one for _, one in read_manifests() if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


def pods() -> list[tuple[str, Manifest]]:
    """The template of each Deployment, by name."""
    return [
        (one["metadata"]["name"], one["spec"]["template"]) for _, one in read_manifests() if one["kind"] == "Deployment"
    ]


def container_of(name: str) -> Manifest:
    """The only container of a Deployment."""
    (container,) = find("Deployment", name)["spec"]["template"]["spec"]["containers"]
    found: Manifest = container
    return found


def plain_environment(container: Manifest) -> dict[str, str]:
    """The variables whose values are in the manifest, and an address in place of the secret."""
    return {one["name"]: one.get("value", "redis://redis:6379") for one in container["env"]}
