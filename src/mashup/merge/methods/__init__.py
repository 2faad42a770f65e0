"""Merge methods, one file each, and the one table of them."""

from mashup.merge.methods.breadcrumbs import BREADCRUMBS
from mashup.merge.methods.dare_linear import DARE_LINEAR
from mashup.merge.methods.dare_ties import DARE_TIES
from mashup.merge.methods.della import DELLA
from mashup.merge.methods.factor_average import FACTOR_AVERAGE
from mashup.merge.methods.greedy_soup import GREEDY_SOUP
from mashup.merge.methods.linear import LINEAR
from mashup.merge.methods.method import Method, Settings
from mashup.merge.methods.model_stock import MODEL_STOCK
from mashup.merge.methods.slerp import SLERP
from mashup.merge.methods.task_arithmetic import TASK_ARITHMETIC
from mashup.merge.methods.ties import TIES

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(LINEAR, TASK_ARITHMETIC, TIES, DARE_LINEAR, DARE_TIES, DELLA, BREADCRUMBS),
        *(SLERP, MODEL_STOCK, GREEDY_SOUP, FACTOR_AVERAGE),
    )
}

__all__ = ["METHODS", "Method", "Settings"]
