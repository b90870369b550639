"""``python scan.py PORT``: what sslyze finds about TLS on a port of this machine, as one JSON object.

A process of its own: the scanner leaves sockets to the garbage collector, and warns of certificates in its own store.
"""

from __future__ import annotations

import json
import sys

from sslyze.mozilla_tls_profile.tls_config_checker import (
    MozillaTlsConfiguration,
    ServerNotCompliantWithTlsConfiguration,
    TlsConfigurationEnum,
    check_server_against_tls_configuration,
)
from sslyze.scanner.models import ServerScanRequest
from sslyze.scanner.scanner import Scanner
from sslyze.server_setting import ServerNetworkLocation


def main(port: int) -> None:
    """Scan, and print.

    ``issues``: against Mozilla's "intermediate", by name. ``versions``, ``curves``: all that are spoken.
    ``renegotiates``, ``early_data``: whether a client may.
    """
    scanner = Scanner(per_server_concurrent_connections_limit=2, concurrent_server_scans_limit=1)
    scanner.queue_scans([ServerScanRequest(ServerNetworkLocation("localhost", port, "127.0.0.1"))])
    (scan,) = scanner.get_results()
    found = scan.scan_result
    assert found is not None, scan.connectivity_error_trace
    issues = {}
    try:
        check_server_against_tls_configuration(
            scan, MozillaTlsConfiguration.get(TlsConfigurationEnum.MOZILLA_INTERMEDIATE)
        )
    except ServerNotCompliantWithTlsConfiguration as error:
        issues = error.issues
    curves, renegotiation = found.elliptic_curves.result, found.session_renegotiation.result
    early_data = found.tls_1_3_early_data.result
    assert curves is not None
    assert renegotiation is not None
    assert early_data is not None
    suites = {
        "1.0": found.tls_1_0_cipher_suites.result,
        "1.1": found.tls_1_1_cipher_suites.result,
        "1.2": found.tls_1_2_cipher_suites.result,
        "1.3": found.tls_1_3_cipher_suites.result,
    }
    told = {
        "issues": issues,
        "versions": [
            name for name, suite in suites.items() if suite is not None and suite.is_tls_version_supported
        ],
        "curves": sorted(curve.name for curve in curves.supported_curves or ()),
        "renegotiates": renegotiation.is_vulnerable_to_client_renegotiation_dos,
        "early_data": early_data.supports_early_data,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(int(sys.argv[1]))
