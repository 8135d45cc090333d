"""A Ray cluster of two nodes on this machine: prints its address, ends the second node at the
first line that it reads, and everything when there are no more."""

import sys
from typing import Any

from ray.cluster_utils import Cluster  # noqa: TID253

NODE: dict[str, Any] = {
    "num_cpus": 1,
    "object_store_memory": 80 * 2**20,
    "include_dashboard": False,
    "node_ip_address": "127.0.0.1",
    "resources": {"paddock_slots": 4},
}
HEAD: dict[str, Any] = {**NODE, "_system_config": {"enable_metrics_collection": False}}

cluster = Cluster(initialize_head=True, head_node_args=HEAD, shutdown_at_exit=False)
try:
    second = cluster.add_node(**NODE)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    if sys.stdin.readline():
        cluster.remove_node(second, allow_graceful=False)
        sys.stdout.write("ended\n")
        sys.stdout.flush()
        sys.stdin.read()
finally:
    cluster.shutdown()  # type: ignore[no-untyped-call]
