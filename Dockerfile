# `mien serve` in a container: analyses, edits, batches, videos and Parquet; no torch, and nothing is downloaded at start.
# The Python is the one that constraints.txt was resolved for.
FROM python:3.11-slim-bookworm AS build
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE WEIGHTS-TERMS.md ./
COPY src src
RUN python -m venv /opt/mien \
    && /opt/mien/bin/pip install --no-cache-dir --constraint constraints.txt '.[serve,edit,video,parquet]' \
    && /opt/mien/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
COPY --from=build /opt/mien /opt/mien
# /config keeps the key that edits are signed with; batches and videos are in /tmp while they are analysed.
RUN mkdir /config && chown 10001:10001 /config
ENV PATH=/opt/mien/bin:$PATH \
    HOME=/config \
    XDG_CONFIG_HOME=/config \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /tmp
VOLUME /config
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["mien"]
CMD ["serve", "--host", "0.0.0.0"]
