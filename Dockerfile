# Two images from one source. `api` serves HTTP, migrates, runs the light worker and beat, and holds no torch; `worker` trains
# and unlearns.
#
#   docker build --target api    -t expunge-api .
#   docker build --target worker -t expunge-worker .
#
# A problem of your own goes on top of the worker image: `FROM expunge-worker`, then `pip install` its package (as USER
# root, back to USER expunge after it). See docs/your-own-model.md.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PATH=/opt/expunge/bin:$PATH
# The folders for artifacts and for checkpoints belong to the user, and a new volume that is mounted there takes its owner over.
RUN groupadd --gid 10001 expunge \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/expunge --shell /usr/sbin/nologin expunge \
    && install -d -o expunge -g expunge /var/lib/expunge/artifacts /var/lib/expunge/data
WORKDIR /var/lib/expunge

# What the service needs, as pyproject.toml names it, in a layer of its own: it changes seldom.
FROM base AS service-dependencies
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python -m venv /opt/expunge \
    && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print(*p['project']['dependencies'], sep='\n')" > needs.txt \
    && pip install -c constraints.txt -r needs.txt

# What the hands need on top of it. The ordinary build of torch brings its CUDA libraries along and runs without
# a GPU too.
FROM service-dependencies AS worker-dependencies
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb')); print(*p['project']['optional-dependencies']['worker'], sep='\n')" > needs.txt \
    && pip install -c constraints.txt -r needs.txt

# The product itself, built once, without its dependencies.
FROM base AS wheel
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY app app
COPY workers workers
COPY unlearning unlearning
COPY embedded embedded
COPY migrations migrations
COPY expunge expunge
RUN pip wheel . --no-deps --wheel-dir /dist

FROM base AS api
COPY --from=service-dependencies /opt/expunge /opt/expunge
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-deps /tmp/dist/*.whl && rm -r /tmp/dist && pip check
USER expunge
EXPOSE 8420
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8420/readyz', timeout=4)"]
CMD ["uvicorn", "app.main:app", "--host", "0.0.0.0", "--port", "8420", "--no-access-log", "--no-server-header", "--timeout-graceful-shutdown", "20"]

FROM base AS worker
COPY --from=worker-dependencies /opt/expunge /opt/expunge
COPY --from=wheel /dist /tmp/dist
RUN pip install --no-deps /tmp/dist/*.whl && rm -r /tmp/dist && pip check
USER expunge
CMD ["celery", "-A", "app.queue:celery", "worker", "--exclude-queues", "light", "--pool", "prefork", "--concurrency", "1", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
