"""The command line: reads arguments, calls the layers below, and turns results into output and exit codes."""
