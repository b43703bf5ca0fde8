"""Behaviours of orders.graph: one function a node. The nodes without one forward what they get."""

import flowstat as fs

DELIVERY = 10
"""Units that a delivery brings, and those in stock at first."""


def order(state, message, ctx):
    made = {
        "units": ctx.random.randint(1, 3),
        "address": "" if ctx.random.random() < 0.04 else "7 Mill Lane",
        "blocked": ctx.random.random() < 0.03,
    }
    ctx.emit(message.body or made)  # a body comes with `flowstat run --input`


def validate(state, message, ctx):
    order = message.body
    if not order["address"]:
        ctx.emit(order, key="rejected.address")
    elif order["blocked"]:
        ctx.emit(order, key="rejected.customer")
    else:
        ctx.emit(order, key="ok")


@fs.on("reserve", state=lambda: {"stock": DELIVERY})
def reserve(state, message, ctx):
    # The stock is the node's own, and outlives an order: whether this one finds enough depends on those before it.
    order = message.body
    state["stock"] += order.get("delivered", 0)
    if order["units"] <= state["stock"]:
        state["stock"] -= order["units"]
        ctx.emit(order, key="ok")
    else:
        ctx.emit(order, key="short")


def backorder(state, message, ctx):
    ctx.emit(message.body, key="cancelled" if ctx.random.random() < 0.1 else "wait")


def restock(state, message, ctx):
    late = ctx.random.random() < 0.22
    ctx.emit({**message.body, "delivered": 0 if late else DELIVERY})


def payment(state, message, ctx):
    # The bank forgets: each attempt has the same chances.
    luck = ctx.random.random()
    if luck < 0.12:
        ctx.emit(message.body, key="retry.timeout")
    elif luck < 0.18:
        ctx.emit(message.body, key="retry.busy")
    elif luck < 0.22:
        ctx.emit(message.body, key="declined")  # its units stay reserved: nothing leads back to the stock
    else:
        ctx.emit(message.body, key="ok")
