# MCP over stdio: docker run -i --rm --no-healthcheck -v ktrdr:/workspace ktrdr-mcp
# HTTP, with a client beside it: compose.yaml
FROM python:3.11-slim AS build
# The CPU build of torch; PyPI's brings CUDA libraries of several gigabytes.
ARG PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"
WORKDIR /src
COPY pyproject.toml constraints.txt README.md CHANGELOG.md LICENSE ./
COPY strategies strategies
COPY src src
RUN python -m venv /opt/ktrdr
RUN /opt/ktrdr/bin/python -m pip install --no-cache-dir --quiet ${PIP_OPTIONS} -c constraints.txt .

FROM python:3.11-slim
COPY --from=build /opt/ktrdr /opt/ktrdr
RUN useradd --uid 10001 --create-home ktrdr && install -d -o ktrdr -g ktrdr /workspace
ENV PATH=/opt/ktrdr/bin:/usr/local/bin:/usr/bin:/bin KTRDR_WORKSPACE=/workspace
# The volume is this container's own; its home, where the proof of that would lie, is not kept.
ENV KTRDR_TRUST_WORKSPACE=1 PYTHONDONTWRITEBYTECODE=1
USER ktrdr
WORKDIR /workspace
VOLUME /workspace
EXPOSE 8000
# For `serve`; 401 is life too: the token is not the check's business.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=5); c.request('GET', '/health'); raise SystemExit(c.getresponse().status not in (200, 401))"]
ENTRYPOINT ["ktrdr-mcp", "--in-process"]
