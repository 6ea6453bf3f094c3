"""Run the command line: ``python -m layerprobe``."""

from layerprobe.cli.app import main

if __name__ == "__main__":
    main()
