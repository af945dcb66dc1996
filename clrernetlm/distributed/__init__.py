"""Runs training and evaluation in several processes: the process group, shards, reductions, batch norm."""
