"""Choose by what past tasks taught: measure a few checkpoints, predict the rest."""

from mashup._score.ledger.factors import Factors, learn
from mashup._score.ledger.predict import Choice, choose, landmarks, predict
from mashup._score.ledger.store import Ledger, Measured

__all__ = ["Choice", "Factors", "Ledger", "Measured", "choose", "landmarks", "learn", "predict"]
