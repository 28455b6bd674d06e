ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1
WORKDIR /src

COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --only-binary=:all: -r requirements/build.txt
# aiohttp-apispec is published as source alone. Build isolation would fetch whatever setuptools
# is newest, with no hash; without it the locked one is used.
RUN /opt/build/bin/pip wheel --require-hashes --only-binary=:all: --no-binary=aiohttp-apispec \
        --use-pep517 --no-build-isolation -r requirements/runtime.txt -w /wheels \
    && python3 -m venv --without-pip /opt/orchestrator \
    && /opt/build/bin/pip --python /opt/orchestrator/bin/python install --no-index --no-deps \
        /wheels/*.whl

COPY pyproject.toml README.md LICENSE ./
COPY config/ config/
COPY orchestrator/ orchestrator/
RUN /opt/build/bin/hatchling build -t wheel -d /dist \
    && /opt/build/bin/pip --python /opt/orchestrator/bin/python install --no-index --no-deps \
        /dist/*.whl


FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="saas-orchestrator" \
      org.opencontainers.image.description="Turns a SaaS control plane's events into jobs, once each." \
      org.opencontainers.image.licenses="MIT"

# The slim images ship their standard library without bytecode, and the user below can't write
# any: each start and each health check would compile it anew.
RUN groupadd --gid 10001 orchestrator \
    && useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin \
        orchestrator \
    && python3 -m compileall -q -x site-packages \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
COPY --from=builder /opt/orchestrator /opt/orchestrator

ENV PATH=/opt/orchestrator/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORCHESTRATOR_CONFIG=production.toml
# By number, so that Kubernetes' runAsNonRoot can see that it isn't root.
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
# Never through the proxy that HTTP_PROXY may name.
HEALTHCHECK --interval=30s --timeout=5s --start-period=15s \
    CMD ["python3", "-c", "import urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["orchestrator"]
CMD ["serve"]
