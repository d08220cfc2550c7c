# SPDX-License-Identifier: Apache-2.0
# Build with `make docker`. The first stage makes the wheel and a virtual environment, the second only runs it.
# `make lock` chooses the versions; pip refuses whatever differs from their hashes.

FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY deploy/image ./deploy/image
RUN python -m venv --without-pip /app
RUN python -m pip --python /app/bin/python install --no-cache-dir --require-hashes -r deploy/image/requirements.txt
RUN python -m pip install --no-cache-dir --require-hashes -r deploy/image/build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY kedastral ./kedastral
RUN python -m pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .
RUN python -m pip --python /app/bin/python install --no-cache-dir --no-deps /wheels/*.whl

FROM python:3.13-slim-bookworm
LABEL org.opencontainers.image.title="kedastral" \
      org.opencontainers.image.description="Predictive autoscaling companion for KEDA" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
# nothing that installs: neither pip nor the copy of it that Python carries
RUN python -m pip uninstall --yes pip && rm -r /usr/local/lib/python3.13/ensurepip
COPY --from=build /app /app
# the root file system may be read-only; the bytecode was compiled when the wheel was installed
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# a number, so that Kubernetes can see that it is not root
USER 65532:65532
# gRPC for KEDA, HTTP of run and forecaster, HTTP of the split scaler
EXPOSE 8080 8081 8082
# No HEALTHCHECK: Kubernetes ignores it and has probes, and which port to ask depends on the command.
# Exec form: the program is PID 1 and gets SIGTERM itself, upon which it drains within 10 s.
ENTRYPOINT ["/app/bin/kedastral"]
CMD ["run"]
