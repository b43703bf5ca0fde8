"""Behaviours of jobs.graph: a job is a body that the steps hand on."""

MOST_ATTEMPTS = 4


def submit(state, message, ctx):
    # One job in forty can't succeed, however often it is tried.
    ctx.emit(message.body or {"attempt": 1, "broken": ctx.random.random() < 0.025})


def fetch(state, message, ctx):
    ctx.emit(message.body, key="retry" if ctx.random.random() < 0.15 else "ok")


def transform(state, message, ctx):
    luck = ctx.random.random()
    if luck < 0.08:
        ctx.emit(message.body, key="damaged")
    elif message.body["broken"] or luck < 0.16:
        ctx.emit(message.body, key="failed")
    else:
        ctx.emit(message.body, key="ok")


def store(state, message, ctx):
    ctx.emit(message.body, key="failed" if ctx.random.random() < 0.06 else "ok")


def requeue(state, message, ctx):
    job = message.body
    if job["attempt"] == MOST_ATTEMPTS:
        ctx.emit(job, key="dead")
    else:
        ctx.emit({**job, "attempt": job["attempt"] + 1}, key="again")
