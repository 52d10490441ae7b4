# docker build -t vgx . && docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/work" vgx train my-net.yaml
FROM python:3.12-slim
COPY . /vgx
RUN pip install --no-cache-dir /vgx
ENV XDG_CACHE_HOME=/tmp/cache
WORKDIR /work
ENTRYPOINT ["vgx"]
