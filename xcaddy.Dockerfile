# Caddy with the Fotor webhook gateway, in a small image that runs as a user of its own.
#
#	docker build -f xcaddy.Dockerfile -t caddy-fotor-webhook .
#
# The first stage builds with the module as it is in this directory. To build a
# released version instead, without this repository:
#	xcaddy build --with github.com/fotor-webhook/caddy-fotor-webhook@<version>
#
# With the inbox on NATS, for several machines (docs/scaling.md), or another plugin:
#	docker build -f xcaddy.Dockerfile -t caddy-fotor-webhook \
#		--build-arg WITH=github.com/fotor-webhook/caddy-fotor-webhook/caddymodule/nats .
ARG CADDY_VERSION=2.11.9
ARG ALPINE_VERSION=3.22

FROM caddy:${CADDY_VERSION}-builder AS build
ARG CADDY_VERSION
ARG WITH=
WORKDIR /src
COPY . .
ENV CGO_ENABLED=0
RUN xcaddy build v${CADDY_VERSION} \
		--output /usr/bin/caddy \
		--with github.com/fotor-webhook/caddy-fotor-webhook=/src \
		${WITH:+--with "$WITH"}

# Not FROM caddy: that image has a Caddy of its own, which would stay in a layer below.
FROM alpine:${ALPINE_VERSION}
RUN apk add --no-cache ca-certificates mailcap \
	&& addgroup -S -g 10001 caddy \
	&& adduser -S -D -H -u 10001 -G caddy caddy \
	&& mkdir -p /data/caddy /config/caddy /etc/caddy \
	&& chown -R caddy:caddy /data /config
COPY --from=build /usr/bin/caddy /usr/bin/caddy

# The inbox and Caddy's certificates are below /data/caddy. Nothing else has to be
# written if the Caddyfile has `persist_config off`, so the root may be read-only.
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 80 443 443/udp
STOPSIGNAL SIGTERM

# Whether callbacks are stored: docs/readiness.md. If the config has nothing on that port,
# whether Caddy runs with a config, which is what the admin endpoint answers.
ENV FOTOR_WEBHOOK_READY=http://127.0.0.1:8081/ready
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 \
	CMD said=$(wget -q -O /dev/null "$FOTOR_WEBHOOK_READY" 2>&1) && exit 0; \
		case "$said" in *refused*) wget -q -O /dev/null http://127.0.0.1:2019/config/ && exit 0 ;; esac; \
		echo "$said"; exit 1
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
