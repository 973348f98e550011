"""How the Kafka clients are set up; what they do on a broker is told in the tests of the commands."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from agents.config import Config, KafkaConfig, SecurityConfig
from agents.kafka_admin import client_options, connect
from deploy.stack import KafkaCluster
from tables.errors import BrokerUnavailable, ConfigError


def with_security(security: SecurityConfig) -> Config:
    return Config(broker="kafka://a:1,b:2", kafka=KafkaConfig(security=security))


def test_a_plain_connection_needs_only_the_nodes() -> None:
    assert client_options(with_security(SecurityConfig())) == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "PLAINTEXT",
    }


def test_sasl_over_tls_says_who_we_are_and_checks_who_they_are() -> None:
    options = client_options(
        with_security(
            SecurityConfig(protocol="SASL_SSL", mechanism="SCRAM-SHA-512", username="tidemark", password="hunter2")
        )
    )
    context = options.pop("ssl_context")
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
    assert options == {
        "bootstrap_servers": ["a:1", "b:2"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "tidemark",
        "sasl_plain_password": "hunter2",
    }


def test_certificates_that_are_none_are_a_configuration_error(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"^kafka\.security\.cafile: .*ca\.pem"):
        client_options(with_security(SecurityConfig(protocol="SSL", cafile=str(file))))


async def test_the_block_of_a_connection_has_its_time_limit(kafka: KafkaCluster) -> None:
    with pytest.raises(BrokerUnavailable, match=r"did not answer within 0\.001 s"):
        async with connect(Config(broker=kafka.url), within_s=0.001) as admin:
            await admin.topics()
