"""What runs in the interpreter of a site: the template and the worker."""
