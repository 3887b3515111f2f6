"""The commands: what an operator types. Reads arguments, calls the layers below, turns results into exit codes."""
