"""The rows, by part of the kit. Peers are imported only by the functions that prepare their calls."""
