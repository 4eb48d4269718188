"""Child process for tests: answers, or does what it is asked to."""

import os
import sys
import time

import msgspec

from pexpolicy.isolation.child import Channel, parent_socket


def main() -> None:
    parent = parent_socket()
    channel = Channel("the test", parent, msgspec.msgpack.decode)
    kept = []
    for message in channel:
        match message:
            case ["exit", code]:
                os._exit(code)
            case ["keep", size]:
                kept.append(b"x" * size)
                time.sleep(600)
            case "hang":
                time.sleep(600)
            case "junk":
                os.write(parent.fileno(), b"\xff" * 8)
            case "twice":
                channel.send(1)
                channel.send(2)
            case "long":
                channel.send(b"x" * 100)
            case "environment":
                channel.send([sys.argv[1:], os.environ.get("PYTHONPATH"), os.environ.get("X_OWN")])
            case "print":
                print("printed")  # noqa: T201
                channel.send(sys.stdin.read())
            case _:
                channel.send([os.getpid(), message])


if __name__ == "__main__":
    main()
