"""The program that the tests of the broker run: five nodes, a loop, two arrows that meet, and a state at the end.

`python -m tests.amqp_app URL FOLDER [KEY=VALUE...]` is a worker of it.
"""

import os
import signal
import sys

from flowstat.errors import FlowstatError
from flowstat.read.files import parse_graph
from flowstat.run.amqp import work
from flowstat.run.app import App

GRAPH = parse_graph("order -> pay, check; pay/ok -> ship; pay/retry -> pay; check -> ship; ship -> count")


def program() -> App:
    """Return the app; a message whose body is the text `poison` kills the worker that handles it at `pay`."""
    app = App(GRAPH, seed=3)

    @app.on("pay")
    def pay(state, message, ctx):
        if message.body == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        ctx.emit(message.body, "retry" if ctx.random.random() < 0.2 else "ok")

    @app.on("count", state=dict)
    def count(state, message, ctx):
        state[message.body] = state.get(message.body, 0) + 1

    return app


if __name__ == "__main__":
    options = {
        key: int(value) if value.isdigit() else value for key, value in (text.split("=") for text in sys.argv[3:])
    }
    try:
        print(*work(program(), *sys.argv[1:3], **options).sentences(), sep="\n", flush=True)
    except FlowstatError as error:
        sys.exit(str(error))
