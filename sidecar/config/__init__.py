"""The YAML file: read, checked with every error at its line, merged, and handed over as frozen structs."""
