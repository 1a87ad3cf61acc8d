"""The entry point of the command `dynarl` and of `python -m dynarl`."""

import signal
import sys


def main() -> int:
    """Run the command line of this process and return the exit status; Ctrl-C while modules load prints one line."""
    try:
        from dynarl.train import command

        return command.main()
    except KeyboardInterrupt:
        print("stopped at once", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
