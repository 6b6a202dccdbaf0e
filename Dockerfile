# The image contains the program, and the CA certificates that it needs to reach a JWKS or an object
# store. It has no shell and no PostgreSQL, so it requires DATABASE_URL and PARLOR_SECRET. Create
# the schema first, with `migrate`:
#
#   docker run -e DATABASE_URL=postgres://… parlor migrate
#   docker run -p 8080:8080 -e DATABASE_URL=postgres://… -e PARLOR_SECRET=… -v parlor:/data parlor

FROM node:22-alpine AS web
WORKDIR /src/web
COPY web ./
COPY openapi.yaml /src/
RUN npm ci && npm run build

# This image has git, which go build needs to record the commit that `parlor version` prints.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
COPY clients/go/go.mod clients/go/
RUN go mod download
COPY . .
COPY --from=web /src/web/dist web/dist
RUN CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/parlor ./cmd/parlor
# scratch has no folders. The program needs one for media and one for temporary files of uploads.
RUN mkdir /out/data /out/tmp

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/parlor /parlor
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/tmp /tmp

# A numeric user needs no /etc/passwd, and Kubernetes can verify that it is not root.
USER 65532:65532

# A loopback address would not be reachable from outside the container. Publish 8080 to clients;
# 8081 (health, metrics, pprof) is for the orchestrator and Prometheus.
ENV PARLOR_LISTEN=0.0.0.0:8080 \
    PARLOR_OPS_LISTEN=0.0.0.0:8081 \
    PARLOR_DATA=/data
EXPOSE 8080 8081
VOLUME /data

ENTRYPOINT ["/parlor"]
CMD ["serve"]
