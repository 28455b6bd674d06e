"""Adapters: implementations of the core's ports. The only package that imports aioboto3 and
botocore."""
