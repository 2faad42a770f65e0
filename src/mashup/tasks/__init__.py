"""Declarative records of the paper's eight benchmarks, one YAML file each.

They are read by :mod:`mashup.task.records`.
"""
