"""Merge methods, a small file each, and the table of all of them."""

from mashup._merge.methods.breadcrumbs import BREADCRUMBS
from mashup._merge.methods.dare import DARE_LINEAR, DARE_TIES
from mashup._merge.methods.della import DELLA
from mashup._merge.methods.factor_average import FACTOR_AVERAGE
from mashup._merge.methods.greedy_soup import GREEDY_SOUP
from mashup._merge.methods.linear import LINEAR, TASK_ARITHMETIC
from mashup._merge.methods.method import Method
from mashup._merge.methods.model_stock import MODEL_STOCK
from mashup._merge.methods.slerp import SLERP
from mashup._merge.methods.ties import TIES

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(LINEAR, TASK_ARITHMETIC, TIES, DARE_LINEAR, DARE_TIES, DELLA, BREADCRUMBS),
        *(SLERP, MODEL_STOCK, GREEDY_SOUP, FACTOR_AVERAGE),
    )
}

__all__ = ["METHODS", "Method"]
