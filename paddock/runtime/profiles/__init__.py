"""The profiles that come with the package, as YAML, and the reader of such files."""
