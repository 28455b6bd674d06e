# The service as a Lambda function's image. Build it from the repository's root:
#   docker build -f deploy/lambda.Dockerfile -t orchestrator-lambda .
ARG LAMBDA_IMAGE=public.ecr.aws/lambda/python:3.13

FROM ${LAMBDA_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary=:all: -r requirements/build.txt
# aiohttp-apispec is published as source alone; without build isolation the locked setuptools is used.
RUN /opt/build/bin/pip wheel --require-hashes --only-binary=:all: --no-binary=aiohttp-apispec \
        --use-pep517 --no-build-isolation -r requirements/runtime.txt -w /wheels \
    && /opt/build/bin/pip install --no-index --no-deps --target /packages /wheels/*.whl

COPY pyproject.toml README.md LICENSE ./
COPY config/ config/
COPY orchestrator/ orchestrator/
RUN /opt/build/bin/hatchling build -t wheel -d /dist \
    && /opt/build/bin/pip install --no-index --no-deps --target /packages /dist/*.whl \
    && python3 -m compileall -q /packages


FROM ${LAMBDA_IMAGE}
COPY --from=builder /packages ${LAMBDA_TASK_ROOT}
ENV ORCHESTRATOR_CONFIG=production.toml
CMD ["orchestrator.lambda_handler.handler"]
