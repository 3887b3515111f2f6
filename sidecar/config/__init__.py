"""The configuration file: read from YAML, checked (each error has its line), merged, and built into frozen structs."""
