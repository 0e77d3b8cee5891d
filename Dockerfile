# The image of worker and gateway: all three distributions and the `fetchq` command, as constraints.txt pins them.
# The tests run on this minor version of Python.
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/fetchq
RUN /opt/fetchq/bin/pip install --no-cache-dir --constraint constraints.txt --upgrade pip
COPY producer ./producer
COPY worker ./worker
COPY gateway ./gateway
# From wheels only: there is no compiler here.
RUN /opt/fetchq/bin/pip install --no-cache-dir --only-binary :all: \
    --constraint constraints.txt --build-constraint constraints.txt ./producer ./worker ./gateway
# Nothing is installed at run time.
RUN /opt/fetchq/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
COPY --from=build /opt/fetchq /opt/fetchq
ENV PATH="/opt/fetchq/bin:$PATH" PYTHONUNBUFFERED=1
# By number, so that a cluster can see that it is not root; it needs no home and no entry in /etc/passwd.
USER 10001:10001
WORKDIR /tmp
STOPSIGNAL SIGTERM
# Asks the workers in the container, each of its processes, over a unix socket; it costs 50 ms and asks no Redis.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 CMD ["fetchq", "worker", "--check"]
ENTRYPOINT ["fetchq"]
CMD ["worker"]
