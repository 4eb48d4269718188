ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
COPY deploy ./deploy
RUN deploy/install dependencies /opt/pexpolicy
COPY . .
RUN deploy/install packages /opt/pexpolicy

FROM python:${PYTHON_VERSION}-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin pexpolicy
COPY --from=build /opt/pexpolicy /opt/pexpolicy
# The root file system may be read-only, so nothing is compiled when the server starts.
ENV PATH=/opt/pexpolicy/bin:/usr/local/bin:/usr/bin:/bin
ENV PEXPOLICY_CONFIG=/etc/pexpolicy/config.toml
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=2 \
    CMD ["pexpolicy", "healthcheck", "--url", "http://127.0.0.1:8000"]
ENTRYPOINT ["pexpolicy"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
