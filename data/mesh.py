"""Behaviours of mesh.graph. How many calls a retry makes is set by the request's body: {"retries": 2}."""

import flowstat as fs

RETRIES = 2
"""Unless a request says otherwise."""

FAILING = 0.3
"""Chance that a call fails: above 1 / FAILING retries, calls multiply."""


def client(state, message, ctx):
    ctx.emit(message.body or {"retries": RETRIES})


def gateway(state, message, ctx):
    ctx.emit(message.body, key="browse" if ctx.random.random() < 0.7 else "buy")


@fs.on("catalog")
@fs.on("cart")
def ask(state, message, ctx):
    ctx.emit({**message.body, "service": message.node})


def database(state, message, ctx):
    answer = "error" if ctx.random.random() < FAILING else "rows"
    ctx.emit(message.body, key=f"{answer}.{message.body['service']}")


@fs.on("retry catalog")
@fs.on("retry cart")
def retry(state, message, ctx):
    for _ in range(message.body["retries"]):
        ctx.emit(message.body)
