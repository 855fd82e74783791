# One image for every part: `docker run IMAGE worker`, `… sink`, `… desk`, `… webhooks run`, `… db upgrade`. Settings by
# FORESHOCK_* variables.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/foreshock
ENV PATH=/opt/foreshock/bin:$PATH
WORKDIR /build
COPY . .
# With hashes where there are wheels (docs/security.md). With the extra `desk`, and no other: neither Kafka, Java nor
# PostgreSQL.
RUN case "$(uname -m)" in \
      x86_64) pip install --require-hashes --only-binary :all: -r requirements-hashed.txt \
        && pip install --no-deps --no-build-isolation . ;; \
      aarch64) pip install --require-hashes --only-binary :all: --no-binary faust-streaming -r requirements-hashed.txt \
        && pip install --no-deps --no-build-isolation . ;; \
      *) pip install -c constraints.txt setuptools && pip install --no-build-isolation -c constraints.txt '.[desk]' ;; \
    esac

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home foreshock
COPY --from=build /opt/foreshock /opt/foreshock
ENV PATH=/opt/foreshock/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER foreshock
WORKDIR /home/foreshock
ENTRYPOINT ["foreshock"]
CMD ["--help"]
