"""Measurements that ``results/`` records; each module is a command of its own, ``python -m
medsegdiff_auto.benchmarks.NAME``.
"""
