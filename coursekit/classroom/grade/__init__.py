"""From bytes to a result: one submission, a class on this machine, a class on a cluster."""
