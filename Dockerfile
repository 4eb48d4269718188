# To pin the base image, append the digest that `docker buildx imagetools inspect python:3.13-slim`
# prints: --build-arg BASE=python:3.13-slim@sha256:...
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY deploy ./deploy
RUN deploy/install dependencies /opt/pexpolicy
COPY . .
RUN deploy/install packages /opt/pexpolicy

FROM ${BASE}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pexpolicy
# Volumes that are mounted here get this owner.
RUN install -d -o 10001 -g 10001 -m 0700 /var/log/pexpolicy /var/lib/pexpolicy /var/lib/pexpolicy-console /run/pexpolicy
COPY --from=build /opt/pexpolicy /opt/pexpolicy
# The root file system may be read-only, so Python must not write bytecode.
ENV PATH=/opt/pexpolicy/bin:/usr/local/bin:/usr/bin:/bin
ENV PEXPOLICY_CONFIG=/etc/pexpolicy/config.toml
ENV PYTHONDONTWRITEBYTECODE=1
# The last good configuration, and what else must outlive the container: mount a volume here.
ENV STATE_DIRECTORY=/var/lib/pexpolicy
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=2 \
    CMD ["pexpolicy", "healthcheck", "--url", "http://127.0.0.1:8000"]
ENTRYPOINT ["pexpolicy"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
