# One image for every part: `docker run IMAGE worker`, `… sink`, `… db upgrade`. Settings by FORESHOCK_* variables.

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/foreshock
ENV PATH=/opt/foreshock/bin:$PATH
WORKDIR /build
COPY . .
RUN pip install -c constraints.txt setuptools && pip install --no-build-isolation -c constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --create-home foreshock
COPY --from=build /opt/foreshock /opt/foreshock
ENV PATH=/opt/foreshock/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER foreshock
WORKDIR /home/foreshock
ENTRYPOINT ["foreshock"]
CMD ["--help"]
