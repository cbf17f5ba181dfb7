# Caddy with the Fotor webhook gateway, from the official builder image.
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

FROM caddy:${CADDY_VERSION}
COPY --from=build /usr/bin/caddy /usr/bin/caddy

# The official image runs as root and keeps its data in /data. Here a user of
# its own has that directory.
RUN addgroup -S -g 10001 caddy \
	&& adduser -S -D -H -u 10001 -G caddy caddy \
	&& mkdir -p /data/caddy /config/caddy \
	&& chown -R caddy:caddy /data /config
USER caddy
VOLUME /data
EXPOSE 80 443

# The admin endpoint answers as long as Caddy runs with a config.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s \
	CMD wget -q -O /dev/null http://127.0.0.1:2019/config/ || exit 1
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
