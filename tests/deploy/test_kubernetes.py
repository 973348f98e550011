"""The manifest's workers: what they are given is what tidemark reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from agents.commands.worker import STOP_S
from agents.config import load_config
from deploy import stack

DEPLOY = Path(stack.__file__).parent


@pytest.fixture
def manifests() -> dict[str, Any]:
    """By kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def test_a_pods_name_is_its_workers_instance_id(manifests: dict[str, Any], tmp_path: Path) -> None:
    [container] = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    given = {each["name"]: each["valueFrom"] for each in container["env"]}
    assert given["TIDEMARK_KAFKA_INSTANCE_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}

    file = tmp_path / "tidemark.yaml"
    file.write_text(manifests["ConfigMap"]["data"][file.name])
    env = dict.fromkeys(given, "redis://r:6379/0") | {"TIDEMARK_KAFKA_INSTANCE_ID": "tidemark-0"}
    config = load_config(file, env)

    assert (config.kafka.instance_id, config.store) == ("tidemark-0", "redis://r:6379/0")
    assert not config.privacy.is_development_key
    assert container["ports"][0]["containerPort"] == config.web.port


def test_a_worker_has_the_time_to_drain(manifests: dict[str, Any]) -> None:
    assert manifests["StatefulSet"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > STOP_S


def test_compose_builds_the_image(manifests: dict[str, Any]) -> None:
    [container] = manifests["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert container["image"] == compose["x-tidemark"]["image"]
