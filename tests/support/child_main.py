"""Child process for tests: answers, or does what it is asked to."""

import os
import sys
import time
from multiprocessing.connection import Connection

import msgspec

from pexpolicy.isolation.child import parent_socket


def main() -> None:  # noqa: C901 - a table
    parent = Connection(parent_socket().detach())

    def send(message: object) -> None:
        parent.send_bytes(msgspec.msgpack.encode(message))

    kept = []
    while True:
        match message := msgspec.msgpack.decode(parent.recv_bytes()):
            case ["exit", code]:
                os._exit(code)
            case ["keep", size]:
                kept.append(b"x" * size)
                time.sleep(600)
            case ["size", content]:
                send(len(content))
            case "hang":
                time.sleep(600)
            case "junk":
                os.write(parent.fileno(), b"\xff" * 8)
            case "twice":
                send(1)
                send(2)
            case "long":
                send(b"x" * 100)
            case "environment":
                send([sys.argv[1:], os.environ.get("PYTHONPATH"), os.environ.get("X_OWN")])
            case "print":
                print("printed")  # noqa: T201
                send(sys.stdin.read())
            case _:
                send([os.getpid(), message])


if __name__ == "__main__":
    main()
