"""What every room stands on: options, registries, errors, files, the cache, the machine and progress."""
