"""`python -m sidecar`: the same as the `sidecar` command. Owns nothing else."""

from sidecar.cli.main import main

if __name__ == "__main__":
    main(prog_name="sidecar")
