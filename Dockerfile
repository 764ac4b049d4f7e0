# syntax=docker/dockerfile:1
# Two stages: the first installs exactly what the hashed lock file lists, the second contains only the result.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 SOURCE_DATE_EPOCH=1767225600
WORKDIR /src
RUN python -m venv /opt/tidegate
COPY requirements/run.txt requirements/build.txt requirements/
RUN /opt/tidegate/bin/python -m pip install --no-compile --require-hashes -r requirements/run.txt -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY operator/ operator/
# Remove pip, setuptools and bundled tests: a tenth of the size, and nothing can be installed in the image.
RUN /opt/tidegate/bin/python -m pip install --no-compile --no-deps --no-build-isolation . \
 && find /opt/tidegate/lib -type d -name tests -prune -exec rm -rf {} + \
 && /opt/tidegate/bin/python -m pip uninstall --yes --quiet setuptools pip \
 && /opt/tidegate/bin/tidegate --version

FROM python:3.12-slim
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="tidegate" \
      org.opencontainers.image.description="Serves each LLM at the lowest cost that keeps its latency promises" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# The base image has a pip of its own, and a copy of it from which another one can be made.
RUN python -m pip uninstall --yes --quiet pip && rm -rf /usr/local/lib/python3*/ensurepip
ENV PATH=/opt/tidegate/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/tidegate /opt/tidegate
USER 65532:65532
EXPOSE 8080
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=2)"]
ENTRYPOINT ["tidegate"]
CMD ["run"]
