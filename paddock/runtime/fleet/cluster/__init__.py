"""A batch on the machines of a Ray cluster: an agent on each node, which drives its sandboxes."""
