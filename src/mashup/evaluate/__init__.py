"""Evaluation: loss and accuracy of a model on tokenized examples. Training and scoring stand on it.

``batches`` (length-sorted, little padding), ``prefix`` (what all examples begin with is run once),
``head`` (the language-model head runs only where an answer token is predicted), ``evaluate``,
``answers`` (the probability of every answer of a finite set), ``knowledge`` (bits above the prior).
"""
