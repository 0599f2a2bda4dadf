"""A helper process of Squid: passes its lines to the service's socket and the answers back. Imports next to nothing."""

import os
import socket
import sys
import threading


def main() -> None:
    """Copies both ways until either side ends; then Squid starts another helper, or ends itself."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])

    def answers() -> None:
        while data := connection.recv(65536):
            os.write(1, data)
        os._exit(0)

    threading.Thread(target=answers, daemon=True).start()
    while data := os.read(0, 65536):
        connection.sendall(data)


if __name__ == "__main__":
    main()
