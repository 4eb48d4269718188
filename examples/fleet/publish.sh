#!/bin/sh
# Build, sign and roll out the policy of this folder: the canary first, then all servers.
#
# VERSION  what people call it, such as the commit
# KEY      the file with the private key
# SITE     the folder that the web server serves
# WAIT     seconds until the servers have it; more than two intervals
set -eu

put() {  # a reader gets the old file or the new one
    cp "$VERSION.tar.gz" "$SITE/$1.tar.gz.new"
    mv "$SITE/$1.tar.gz.new" "$SITE/$1.tar.gz"
}

pexpolicy bundle build policy "$VERSION.tar.gz" --version "$VERSION"
pexpolicy bundle sign "$VERSION.tar.gz" "$KEY"
put canary
pexpolicy status --config canary.toml --fleet --wait "$WAIT" --expect "$VERSION"
put stable
pexpolicy status --config all.toml --fleet --wait "$WAIT" --expect "$VERSION"
