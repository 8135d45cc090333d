"""What programs in a sandbox are told of its proxy."""

from __future__ import annotations

from paddock.backends.egress import gate
from paddock.backends.guest.ports import Gate
from paddock.network import Allow


def test_java_s_own_options_stay_beside_those_of_the_proxy() -> None:
    told = gate(Allow(hosts=[])).environment({"JAVA_TOOL_OPTIONS": "-Xmx1g", "PATH": "/bin"})
    own, *ours = told["JAVA_TOOL_OPTIONS"].split()
    assert own == "-Xmx1g"
    assert "-Dhttps.proxyPort=3128" in ours
    assert (told["PATH"], told["https_proxy"]) == ("/bin", "http://127.0.0.1:3128")


def test_without_a_proxy_an_environment_stays_as_it_is() -> None:
    given = {"JAVA_TOOL_OPTIONS": "-Xmx1g"}
    assert Gate().environment(given) == given
