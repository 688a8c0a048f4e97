# The hub alone, as a static binary, for a user without privileges: docker build -t watchbox .
# For several platforms: docker buildx build --platform linux/amd64,linux/arm64 -t watchbox .

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -ldflags='-s -w' -o /root/image/usr/bin/watchbox ./cmd/watchbox
# the certificate authorities are for ACME servers and key sets
RUN mkdir -p /root/image/etc/ssl/certs /root/image/var/lib/watchbox \
	&& cp /etc/ssl/certs/ca-certificates.crt /root/image/etc/ssl/certs/

FROM scratch
COPY --from=build --chown=65532:65532 /root/image/var/lib/watchbox /var/lib/watchbox
COPY --from=build /root/image/usr /usr
COPY --from=build /root/image/etc /etc
USER 65532:65532
# On any address the hub needs tokens, or WATCHBOX_OPEN_TO_ANYONE=true. Otherwise it does not start.
ENV WATCHBOX_LISTEN=:1234 WATCHBOX_DATA_DIR=/var/lib/watchbox
EXPOSE 1234
VOLUME /var/lib/watchbox
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/usr/bin/watchbox", "health"]
ENTRYPOINT ["/usr/bin/watchbox"]
CMD ["serve"]
